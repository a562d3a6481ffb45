package audit

import (
	_ "embed"
	"encoding/csv"
	"fmt"
	"strings"
	"sync"
)

//go:generate go run ./internal/gencatalog -out supabase_management.csv $MANAGEMENT_OPENAPI

// supabaseManagement has one line for each operation of the Management API:
// method, template, id and whether it requires a credential.
//
//go:embed supabase_management.csv
var supabaseManagement string

// supabaseRules read the Management API's templates.
var supabaseRules = Rules{
	// Everything that is not named here, nor followed by a parameter in some
	// route, is a verb or a setting of the project: pause, upgrade, restore,
	// health, readonly, postgrest, ssl-enforcement, types, advisors,
	// analytics, config/auth, config/storage, config/database, database/query,
	// database/webhooks.
	Types: map[string]string{
		"projects": typeProject,

		// Collections that have another name for people.
		"actions":       "action_run",
		"functions":     "edge_function",
		"database/jit":  "jit_access",
		"sso/providers": "sso_provider",

		// Collections whose things have no route of their own.
		"database/backups": "backup",
		"members":          "member",
		"network-bans":     "network_ban",
		"read-replicas":    "read_replica",
		"secrets":          "secret",
		"storage/buckets":  "bucket",

		// Settings that an auditor looks for by themselves: they decide who
		// gets in, under which name, or hold a key.
		"cli/login-role":       "login_role",
		"custom-hostname":      "custom_hostname",
		"network-restrictions": "network_restrictions",
		"pgsodium":             "pgsodium_key",
		"vanity-subdomain":     "vanity_subdomain",

		// A project's way to another organization, seen from both ends; the
		// other end, project-claim/{token}, has this type by itself.
		"claim-token": "project_claim",

		"oauth/authorize": "oauth_authorization",
		"oauth/token":     "oauth_token",
		"oauth/revoke":    "oauth_token",

		// Going back in time changes the project, not the backup.
		"backups/restore-pitr":  typeProject,
		"backups/restore-point": "restore_point",
		"backups/undo":          typeProject,
	},
	ProjectParams: []string{"ref"},
	// Both may begin an authorization.
	Changing: []string{"v1-authorize-user", "v1-oauth-authorize-project-claim"},
	// The same two, and those that take the client's secret in their body.
	Unsecured: []string{
		"v1-authorize-user", "v1-oauth-authorize-project-claim", "v1-exchange-oauth-token", "v1-revoke-token",
	},
}

// Supabase is the platform "supabase": the routes of its Management API and of
// its dashboard. Every call returns the same value, which is safe for
// concurrent use.
func Supabase() *Platform { return supabase() }

var supabase = sync.OnceValue(func() *Platform {
	catalog, err := newSupabaseCatalog()
	if err != nil {
		panic(err) // the data is part of the program, and tested
	}
	return &Platform{Name: "supabase", Catalog: catalog, Rules: supabaseRules, Tokens: supabaseTokens, Claims: sessionClaims}
})

// supabaseAPIs are read each by its own rules, so that none can change what
// the other's templates mean, and make one catalog.
var supabaseAPIs = []struct {
	file, table string
	rules       Rules
}{
	{"supabase_management.csv", supabaseManagement, supabaseRules},
	{"supabase_platform.csv", supabasePlatform, supabasePlatformRules},
}

func newSupabaseCatalog() (*Catalog, error) {
	var all []Operation
	for _, api := range supabaseAPIs {
		routes, err := readRoutes(api.table)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", api.file, err)
		}
		operations, err := api.rules.Operations(routes)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", api.file, err)
		}
		all = append(all, operations...)
	}
	for i := range all {
		supabaseFacts[all[i].Code].apply(&all[i])
	}
	return NewCatalog(all)
}

// readRoutes reads lines of method, template, id and security under a heading.
func readRoutes(table string) ([]Route, error) {
	r := csv.NewReader(strings.NewReader(table))
	r.FieldsPerRecord = 4
	rows, err := r.ReadAll()
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	routes := make([]Route, 0, len(rows)-1)
	for _, row := range rows[1:] {
		routes = append(routes, Route{Method: row[0], Template: row[1], Code: row[2], Secured: row[3] == "required"})
	}
	return routes, nil
}
