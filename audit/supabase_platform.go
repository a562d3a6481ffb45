package audit

import _ "embed"

//go:generate go run ./internal/gencatalog -out supabase_platform.csv $PLATFORM_ROUTES

// supabasePlatform has one line for each operation of the dashboard's API:
// method, template and id. The column of security is empty, since its
// description says nothing of it.
//
//go:embed supabase_platform.csv
var supabasePlatform string

// supabasePlatformRules read the dashboard's templates. There, {slug} is an
// organization only under organizations and where Types says so, and {ref} is
// a project wherever it stands.
var supabasePlatformRules = Rules{
	// As in the Management API, what is not named here nor followed by a
	// parameter is a verb or a setting: of the project, as in config, disk,
	// pg-meta and analytics, or of the organization, as in billing, customer
	// and documents.
	Types: map[string]string{
		"projects":                            typeProject,
		"platform/projects-resource-warnings": typeProject,

		// The account of whoever calls, or of nobody yet.
		"platform/profile":        "account",
		"platform/reset-password": "account",
		"platform/signup":         "account",
		"platform/update-email":   "account",
		"cli/login":               "cli_login",
		"platform/notifications":  "notification",

		// A project's own users, who are not the dashboard's.
		"auth/{}/invite":    "auth_user",
		"auth/{}/magiclink": "auth_user",
		"auth/{}/otp":       "auth_user",
		"auth/{}/recover":   "auth_user",
		"auth/{}/templates": "auth_template",
		"auth/{}/users":     "auth_user",

		"oauth/apps":           "oauth_app",
		"oauth/authorizations": "oauth_authorization",

		// Other companies' things, and the organization that they belong to.
		"platform/integrations":    "integration",
		"platform/integrations/{}": typeOrganization,
		"private-link/{}":          typeOrganization,
		"github/authorization":     "github_authorization",
		"github/connections":       "github_connection",
		"github/repositories":      "github_repository",
		"repositories/{}/branches": "github_branch",
		"integrations/vercel":      "vercel_integration",
		"vercel/connections":       "vercel_connection",
		"vercel/projects/{}":       "vercel_integration",
		"vercel/redirect":          "vercel_installation",
		// The id is Fly's: it finds a project or an organization and is
		// neither a ref nor a slug.
		"organizations/fly": "fly_organization",
		"projects/fly":      "fly_extension",

		"billing/subscription":   "subscription",
		"invoices":               "invoice",
		"members":                "member",
		"members/mfa":            typeOrganization, // who must use it is for the organization to say
		"members/{}/roles/{}":    "member",         // the member changes, the role does not
		"organizations/{}/sso":   "sso_provider",
		"organizations/{}/roles": "role",
		"payments":               "payment_method",
		"stripe/setup-intent":    "payment_method",
		"tax-ids":                "tax_id",

		"database/{}/backups": "backup",
		// Going back in time changes the project, not the backup.
		"backups/pitr":             typeProject,
		"backups/restore":          typeProject,
		"backups/restore-physical": typeProject,

		"advisor/exceptions":      "notification_exception",
		"api-keys":                "api_key",
		"config/secrets":          "jwt_secret",
		"content":                 "content",
		"content/folders":         "content_folder",
		"content/item":            "content",
		"db-password":             "database_password",
		"run-lints/{}":            typeProject, // a lint is a way to read the project
		"warehouse/access-tokens": "warehouse_access_token",
		"warehouse/collections":   "warehouse_collection",
		"warehouse/endpoints":     "warehouse_endpoint",

		// AWS accounts that reach the project's network.
		"privatelink/associations": "private_link_association",
		"associations/aws-account": "private_link_association",

		// A destination and its pipeline are made together; the pipeline is
		// the inner one.
		"destinations-pipelines":       "replication_pipeline",
		"destinations-pipelines/{}":    "replication_destination",
		"destinations-pipelines/{}/{}": "replication_pipeline",
		"replication/{}/destinations":  "replication_destination",
		"replication/{}/pipelines":     "replication_pipeline",
		"replication/{}/sources":       "replication_source",
		"tenants-sources":              "replication_source",

		"storage/{}/archive":     "storage_archive",
		"storage/{}/credentials": "storage_credential",
		"buckets/{}/objects":     "object",
	},
	ProjectParams: []string{"ref"},
	// Logflare's UUIDs of a backend and of a source: its API takes them only
	// beside a key of its own. The UUID of an endpoint is none of these, since
	// an endpoint may be open to whoever knows it.
	Identifiers: []string{"analytics/log-drains/{}", "warehouse/collections/{}"},
	// Methods that are told apart by their controllers only, or that do
	// something else than they say.
	Names: map[string]string{
		"AccessTokenController_createAccessToken":        "Create warehouse access token",
		"AccessTokenController_deleteAccessToken":        "Delete warehouse access token",
		"AccessTokenController_listAccessTokens":         "List warehouse access tokens",
		"ScopedAccessTokensController_createAccessToken": "Create scoped access token",
		"ScopedAccessTokensController_deleteAccessToken": "Delete scoped access token",
		"ScopedAccessTokensController_getAccessToken":    "Get scoped access token",
		"ScopedAccessTokensController_getAccessTokens":   "Get scoped access tokens",

		"StorageAnalyticsBucketIdController_deleteBucket":           "Delete analytics bucket",
		"StorageAnalyticsBucketNamespaceTablesController_getTables": "Get namespace tables",
		"StorageAnalyticsBucketsController_createBucket":            "Create analytics bucket",
		"StorageAnalyticsBucketsController_getBuckets":              "Get analytics buckets",
		"StorageVectorBucketIdController_deleteBucket":              "Delete vector bucket",
		"StorageVectorBucketIdController_getBucket":                 "Get vector bucket",
		"StorageVectorBucketsController_createBucket":               "Create vector bucket",
		"StorageVectorBucketsController_getBuckets":                 "Get vector buckets",

		"PublicationsController_getPublications":      "Get database publications",
		"TablesController_getTables":                  "Get database tables",
		"ReplicationSourcesController_getTables":      "Get source tables",
		"RealtimeConfigController_getConfig":          "Get realtime config",
		"RealtimeConfigController_updateConfig":       "Update realtime config",
		"SecretsConfigController_updateConfig":        "Update secrets config",
		"StorageConfigController_getConfig":           "Get storage config",
		"StorageConfigController_updateConfig":        "Update storage config",
		"DbPasswordController_updatePassword":         "Update database password",
		"DatabasesStatusesController_getStatus":       "Get databases statuses",
		"PauseController_getProject":                  "Get project pause status",
		"ProjectMembersController_getProjecMembers":   "Get project members",
		"ProjectStatusController_getStatus":           "Get project status",
		"UnpauseController_getAvailableImageVersions": "Get available restore versions",

		"ClazarController_getRedirectUrl":             "Get cloud marketplace redirect url",
		"ClazarController_link":                       "Link cloud marketplace",
		"CollectionController_getCollection":          "Get collection schema",
		"CollectionController_getCollectionSchema":    "Get collection",
		"GitHubRepositoriesController_getRepository":  "Get repository branch",
		"PlatformOAuthAppsController_dynamicRegister": "Register OAuth app",
		"StatusController_getStatus":                  "Get platform status",
		"TelemetryIdentifyController_identifyV2":      "Identify telemetry user",
		"TelemetryResetController_reset":              "Reset telemetry",
		"UserAuditLogsController_getAuditLogs":        "Get account audit logs",
		"VercelRedirectController_getRedirectUrl":     "Get vercel redirect url",
	},
}
