package audit

// fact is what is known of one operation beyond its route.
type fact struct {
	capture   Capture
	sensitive bool
	born      string
	// transfers and offers are the operation's.
	transfers, offers bool
}

func (f fact) apply(op *Operation) {
	op.Capture, op.Sensitive, op.Born = f.capture, f.sensitive, f.born
	op.Transfers, op.Offers = f.transfers, f.offers
}

// reveals is an operation that shows keys, secrets, data, or who gets in.
var reveals = fact{sensitive: true}

// Lists that several operations share.
var (
	functionFields = []string{"slug", "name", "verify_jwt", "entrypoint_path"}
	functionMade   = []string{"id", "slug", "version", "status", "verify_jwt"}
	projectMade    = []string{"id", "ref", "name", "region", "organization_id", "organization_slug", "status"}
	branchMade     = []string{"id", "name", "project_ref", "parent_project_ref", "git_branch", "persistent", "is_default", "with_data"}
	branchFields   = []string{
		"branch_name", "git_branch", "is_default", "persistent", "region", "desired_instance_size", "release_channel",
		"postgres_engine", "with_data",
	}
	apiKeyFields = []string{"type", "name", "description"}
	apiKeyMade   = []string{"id", "type", "name"}
	signingKey   = []string{"id", "algorithm", "status"}
	ssoFields    = []string{"type", "domains", "metadata_url", "name_id_format"}
	ssoMade      = []string{"id", "saml.entity_id", "domains.*.domain"}
	tpaMade      = []string{"id", "type", "oidc_issuer_url", "jwks_url"}
	restrictions = []string{"status", "entitlement", "config", "old_config"}
	hostname     = []string{"status", "custom_hostname"}
	reveal       = []string{"reveal"}
)

// authFields of the auth service's configuration decide who gets in, how, and
// for how long. Those of each provider would be too many for one list; their
// switches are there, without their keys.
var authFields = []string{
	"site_url", "uri_allow_list", "disable_signup", "jwt_exp", "mailer_allow_unverified_email_sign_ins", "mailer_autoconfirm",
	"mailer_secure_email_change_enabled", "mailer_otp_exp", "mailer_otp_length", "sms_autoconfirm", "sms_otp_exp", "sms_otp_length",
	"sms_provider", "mfa_max_enrolled_factors", "mfa_totp_enroll_enabled", "mfa_totp_verify_enabled", "mfa_phone_enroll_enabled",
	"mfa_phone_verify_enabled", "mfa_web_authn_enroll_enabled", "mfa_web_authn_verify_enabled", "saml_enabled",
	"security_captcha_enabled", "security_captcha_provider", "security_manual_linking_enabled",
	"security_update_password_require_reauthentication", "security_refresh_token_reuse_interval", "refresh_token_rotation_enabled",
	"password_hibp_enabled", "password_min_length", "password_required_characters", "sessions_timebox",
	"sessions_inactivity_timeout", "sessions_single_per_user", "external_anonymous_users_enabled", "external_email_enabled",
	"external_phone_enabled", "external_apple_enabled", "external_azure_enabled", "external_bitbucket_enabled",
	"external_discord_enabled", "external_facebook_enabled", "external_figma_enabled", "external_github_enabled",
	"external_gitlab_enabled", "external_google_enabled", "external_keycloak_enabled", "external_linkedin_oidc_enabled",
	"external_slack_oidc_enabled", "external_twitter_enabled", "external_workos_enabled", "external_zoom_enabled",
	"external_web3_ethereum_enabled", "external_web3_solana_enabled", "smtp_host", "smtp_admin_email", "smtp_sender_name",
	"hook_mfa_verification_attempt_enabled", "hook_password_verification_attempt_enabled", "hook_custom_access_token_enabled",
	"hook_send_sms_enabled", "hook_send_email_enabled", "hook_before_user_created_enabled", "hook_custom_access_token_uri",
	"hook_before_user_created_uri",
}

// supabaseFacts are by the operations' codes. Nothing here leads to a key, a
// password, a secret's value or a row of a table.
var supabaseFacts = map[string]fact{
	// Projects and organizations.
	"v1-create-a-project": {
		capture: Capture{
			Body: []string{
				"name", "organization_id", "organization_slug", "plan", "region", "region_selection", "desired_instance_size",
				"kps_enabled", "template_url", "release_channel", "postgres_engine",
			},
			Response: projectMade,
		},
		born: "ref",
	},
	"v1-delete-a-project":                    {capture: Capture{Response: []string{"ref", "name"}}},
	"v1-create-an-organization":              {capture: Capture{Body: []string{"name"}, Response: []string{"id", "slug", "name"}}, born: "slug"},
	"v1-upgrade-postgres-version":            {capture: Capture{Body: []string{"target_version", "release_channel"}, Response: []string{"tracking_id"}}},
	"v1-apply-project-addon":                 {capture: Capture{Body: []string{"addon_variant", "addon_type"}}},
	"v1-setup-a-read-replica":                {capture: Capture{Body: []string{"read_replica_region"}}},
	"v1-remove-a-read-replica":               {capture: Capture{Body: []string{"database_identifier"}}},
	"v1-create-project-claim-token":          {capture: Capture{Response: []string{"token_alias", "expires_at", "created_by"}}, offers: true},
	"v1-claim-project-for-organization":      {transfers: true},
	"v1-get-project-claim-token":             reveals,
	"v1-get-organization-project-claim":      reveals,
	"v1-list-organization-members":           reveals,
	"v1-authorize-user":                      {capture: Capture{Query: []string{"client_id", "response_type", "redirect_uri", "scope", "organization_slug"}}},
	"v1-oauth-authorize-project-claim":       {capture: Capture{Query: []string{"client_id", "response_type", "redirect_uri", "project_ref"}}},
	"v1-exchange-oauth-token":                {capture: Capture{Body: []string{"grant_type", "client_id", "redirect_uri", "scope", "resource"}, Response: []string{"expires_in", "token_type"}}},
	"v1-revoke-token":                        {capture: Capture{Body: []string{"client_id"}}},
	"v1-update-action-run-status":            {capture: Capture{Body: []string{"clone", "pull", "health", "configure", "migrate", "seed", "deploy"}}},
	"v1-get-action-run-logs":                 reveals,
	"v1-delete-a-branch":                     {capture: Capture{Query: []string{"force"}}},
	"v1-create-a-branch":                     {capture: Capture{Body: branchFields, Response: branchMade}, born: "id"},
	"v1-update-a-branch-config":              {capture: Capture{Body: []string{"branch_name", "git_branch", "reset_on_push", "persistent", "status", "request_review"}}},
	"v1-push-a-branch":                       {capture: Capture{Body: []string{"migration_version"}, Response: []string{"workflow_run_id"}}},
	"v1-merge-a-branch":                      {capture: Capture{Body: []string{"migration_version"}, Response: []string{"workflow_run_id"}}},
	"v1-reset-a-branch":                      {capture: Capture{Body: []string{"migration_version"}, Response: []string{"workflow_run_id"}}},
	"v1-get-a-branch-config":                 reveals, // it holds the database's password
	"v1-get-project-signing-keys":            reveals,
	"v1-get-project-signing-key":             reveals,
	"v1-get-legacy-signing-key":              reveals,
	"v1-create-legacy-signing-key":           {capture: Capture{Response: signingKey}},
	"v1-create-project-signing-key":          {capture: Capture{Body: []string{"algorithm", "status"}, Response: signingKey}, born: "id"},
	"v1-update-project-signing-key":          {capture: Capture{Body: []string{"status"}, Response: signingKey}},
	"v1-remove-project-signing-key":          {capture: Capture{Response: signingKey}},
	"v1-get-project-api-keys":                {capture: Capture{Query: reveal}, sensitive: true},
	"v1-get-project-api-key":                 {capture: Capture{Query: reveal}, sensitive: true},
	"v1-get-project-legacy-api-keys":         reveals,
	"v1-update-project-legacy-api-keys":      {capture: Capture{Query: []string{"enabled"}, Response: []string{"enabled"}}},
	"v1-create-project-api-key":              {capture: Capture{Query: reveal, Body: apiKeyFields, Response: apiKeyMade}, sensitive: true, born: "id"},
	"v1-update-project-api-key":              {capture: Capture{Query: reveal, Body: apiKeyFields[1:], Response: apiKeyMade}, sensitive: true},
	"v1-delete-project-api-key":              {capture: Capture{Query: []string{"reveal", "was_compromised", "reason"}, Response: apiKeyMade}, sensitive: true},
	"v1-list-all-secrets":                    reveals,
	"v1-bulk-create-secrets":                 {capture: Capture{Body: []string{"*.name"}}},
	"v1-bulk-delete-secrets":                 {capture: Capture{Body: []string{"*"}}}, // names
	"v1-get-pgsodium-config":                 reveals,
	"v1-update-pgsodium-config":              {sensitive: true},
	"v1-create-login-role":                   {capture: Capture{Body: []string{"read_only"}, Response: []string{"role", "ttl_seconds"}}, sensitive: true},
	"v1-create-a-function":                   {capture: Capture{Query: functionFields, Body: functionFields[:3], Response: functionMade}, born: "slug"},
	"v1-update-a-function":                   {capture: Capture{Query: functionFields, Body: functionFields[1:3], Response: functionMade}},
	"v1-bulk-update-functions":               {capture: Capture{Body: []string{"*.slug", "*.name", "*.status", "*.version", "*.verify_jwt"}}},
	"v1-deploy-a-function":                   {capture: Capture{Query: []string{"slug", "bundleOnly"}, Body: []string{"metadata.name", "metadata.verify_jwt", "metadata.entrypoint_path"}, Response: functionMade}, born: "slug"},
	"v1-get-a-function-body":                 reveals,
	"v1-update-hostname-config":              {capture: Capture{Body: []string{"custom_hostname"}, Response: hostname}},
	"v1-verify-dns-config":                   {capture: Capture{Response: hostname}},
	"v1-activate-custom-hostname":            {capture: Capture{Response: hostname}},
	"v1-activate-vanity-subdomain-config":    {capture: Capture{Body: []string{"vanity_subdomain"}, Response: []string{"custom_domain"}}},
	"v1-check-vanity-subdomain-availability": {capture: Capture{Body: []string{"vanity_subdomain"}}},
	"v1-delete-network-bans":                 {capture: Capture{Body: []string{"ipv4_addresses", "requester_ip", "identifier"}}},
	"v1-update-network-restrictions":         {capture: Capture{Body: []string{"dbAllowedCidrs", "dbAllowedCidrsV6"}, Response: restrictions}},
	"v1-patch-network-restrictions":          {capture: Capture{Body: []string{"add", "remove"}, Response: restrictions}},
	"v1-update-ssl-enforcement-config":       {capture: Capture{Body: []string{"requestedConfig.database"}, Response: []string{"currentConfig.database", "appliedSuccessfully"}}},

	// Who gets in.
	"v1-get-auth-service-config":        reveals,
	"v1-update-auth-service-config":     {capture: Capture{Body: authFields}, sensitive: true},
	"v1-list-all-sso-provider":          reveals,
	"v1-get-a-sso-provider":             reveals,
	"v1-create-a-sso-provider":          {capture: Capture{Body: ssoFields, Response: ssoMade}, born: "id"},
	"v1-update-a-sso-provider":          {capture: Capture{Body: ssoFields[1:], Response: ssoMade}},
	"v1-delete-a-sso-provider":          {capture: Capture{Response: ssoMade}},
	"v1-create-project-tpa-integration": {capture: Capture{Body: []string{"oidc_issuer_url", "jwks_url"}, Response: tpaMade}, born: "id"},
	"v1-delete-project-tpa-integration": {capture: Capture{Response: tpaMade}},
	"v1-get-jit-access":                 reveals,
	"v1-list-jit-access":                reveals,
	"v1-authorize-jit-access":           {capture: Capture{Body: []string{"role", "rhost"}, Response: []string{"user_id", "user_role"}}},
	"v1-update-jit-access":              {capture: Capture{Body: []string{"user_id", "roles"}, Response: []string{"user_id", "user_roles"}}},

	// Services and the database.
	"v1-get-project-pgbouncer-config":    reveals, // a connection string
	"v1-get-pooler-config":               reveals,
	"v1-update-pooler-config":            {capture: Capture{Body: []string{"default_pool_size", "pool_mode"}}},
	"v1-get-postgrest-service-config":    reveals, // the JWT's secret
	"v1-update-postgrest-service-config": {capture: Capture{Body: []string{"db_extra_search_path", "db_schema", "max_rows", "db_pool"}}},
	"v1-update-storage-config":           {capture: Capture{Body: []string{"fileSizeLimit", "features"}}},
	"v1-update-postgres-config":          {capture: Capture{Body: []string{"max_connections", "statement_timeout", "session_replication_role", "restart_database"}}},
	"v1-list-all-backups":                reveals,
	"v1-restore-pitr-backup":             {capture: Capture{Body: []string{"recovery_time_target_unix"}}},
	"v1-create-restore-point":            {capture: Capture{Body: []string{"name"}, Response: []string{"name", "status"}}, born: "name"},
	"v1-undo":                            {capture: Capture{Body: []string{"name"}}},
	"v1-get-database-metadata":           reveals,
	"v1-apply-a-migration":               {capture: Capture{Body: []string{"name", "query:sql", "rollback:sql"}}},
	"v1-upsert-a-migration":              {capture: Capture{Body: []string{"name", "query:sql", "rollback:sql"}}},
	"v1-patch-a-migration":               {capture: Capture{Body: []string{"name", "rollback:sql"}}},
	"v1-rollback-migrations":             {capture: Capture{Query: []string{"gte"}}},
	"v1-get-a-migration":                 reveals,
	"v1-run-a-query":                     {capture: Capture{Body: []string{"query:sql", "read_only"}}, sensitive: true},
	"v1-get-project-logs":                {capture: Capture{Query: []string{"sql:sql", "iso_timestamp_start", "iso_timestamp_end"}}, sensitive: true},
	"v1-get-a-snippet":                   reveals,

	// The dashboard's. Its bodies are described nowhere: these are the names
	// that are the same as above or say what they are.
	"InvitationsController_createInvitation":             {capture: Capture{Body: []string{"email", "emails", "role_id", "role_scoped_projects"}}},
	"InvitationsController_getAllInvitations":            reveals,
	"InvitationsController_getInvitationByToken":         reveals,
	"MembersController_getMembers":                       reveals,
	"MembersController_assignMemberRoleV2":               {capture: Capture{Body: []string{"role_id", "role_scoped_projects"}}},
	"MembersController_UpdateMemberRole":                 {capture: Capture{Body: []string{"name", "role_scoped_projects"}}},
	"MfaController_updateMFAState":                       {capture: Capture{Body: []string{"enforced"}}},
	"OrganizationsController_createOrganizationWithTier": {capture: Capture{Body: []string{"name", "tier", "size", "kind"}, Response: []string{"id", "slug", "name"}}, born: "slug"},
	"OrganizationSlugController_updateOrganization":      {capture: Capture{Body: []string{"name"}}},
	"ProjectsController_createProject":                   {capture: Capture{Body: []string{"name", "organization_slug", "db_region", "cloud_provider", "desired_instance_size"}, Response: projectMade}, born: "ref"},
	"ProjectsRefController_updateProject":                {capture: Capture{Body: []string{"name"}}},
	"ProjectTransferController_transferProject":          {capture: Capture{Body: []string{"target_organization_slug"}}, transfers: true},
	"SettingsController_getProjectSettings":              reveals,
	"AccessTokensController_createAccessToken":           {capture: Capture{Body: []string{"name", "scope"}, Response: []string{"id", "name", "token_alias"}}, sensitive: true, born: "id"},
	"ScopedAccessTokensController_createAccessToken":     {capture: Capture{Body: []string{"name", "permissions", "organization_slugs", "project_refs", "expires_at"}, Response: []string{"id", "name"}}, sensitive: true, born: "id"},
	"GoTrueConfigController_getGoTrueConfig":             reveals,
	"BackupsController_getBackups":                       reveals,
	"BackupsController_downloadBackup":                   reveals,
	"BackupsController_getDownloadableBackups":           reveals,
	"QueryController_runQuery":                           {capture: Capture{Body: []string{"query:sql"}}, sensitive: true},
	"WarehouseQueryController_runQuery":                  reveals,
	"LogsController_getProjectLogsViaGet":                {capture: Capture{Query: []string{"sql:sql", "iso_timestamp_start", "iso_timestamp_end"}}, sensitive: true},
	"LogsController_getProjectLogsViaPost":               {capture: Capture{Body: []string{"sql:sql", "iso_timestamp_start", "iso_timestamp_end"}}, sensitive: true},
	"OrgAuditLogsController_getAuditLogs":                reveals,
	"OAuthAppClientSecretsController_listClientSecrets":  reveals,
	"OAuthAppClientSecretsController_CreateClientSecret": reveals,
	"StorageS3CredentialsController_getAllCredentials":   reveals,
	"StorageS3CredentialsController_createCredential":    {capture: Capture{Body: []string{"description"}}, sensitive: true},
	"ApiKeysController_createTemporaryApiKey":            reveals,
	"PostgrestConfigController_getPostgRESTConfig":       reveals,
	"SupavisorConfigController_getSupavisorConfig":       reveals,
	"PgbouncerConfigController_getPgbouncerConfig":       reveals,
	"StorageObjectsController_createSignedUrl":           reveals,
	"StorageObjectsController_createSignedUrls":          reveals,
}
