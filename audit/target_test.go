package audit

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// dashboardRules are a few of what a dashboard needs, in which a parameter's
// name means one thing here and another there.
var dashboardRules = Rules{
	Types: map[string]string{
		"projects":              typeProject,
		"organizations":         typeOrganization,
		"platform/integrations": typeOrganization,
		"functions":             "edge_function",
		"vercel/projects":       "vercel_project",
		"vercel/connections":    "vercel_connection",
		"backups/pitr":          typeProject,
		"backups":               "backup",
	},
	ProjectParams: []string{"ref"},
}

func TestTargetFollowsFromTheTemplate(t *testing.T) {
	templates := map[string]Operation{
		"/platform/projects/{ref}/functions/{slug}": {
			Target: TargetRule{"edge_function", "slug", "ref"}, Project: "ref",
		},
		"/platform/organizations/{slug}": {
			Target: TargetRule{"organization", "slug", ""}, Organization: "slug",
		},
		"/platform/integrations/{slug}": {
			Target: TargetRule{"organization", "slug", ""}, Organization: "slug",
		},
		"/platform/organizations/{slug}/members/{gotrue_id}": {
			Target: TargetRule{"member", "gotrue_id", "slug"}, Organization: "slug",
		},
		"/platform/organizations/{slug}/members/invitations/{token}": {
			Target: TargetRule{"invitation", "", "slug"}, Organization: "slug", Secrets: []string{"token"},
		},
		"/platform/organizations/{slug}/oauth/apps/{app_id}/client-secrets/{secret_id}": {
			Target: TargetRule{"client_secret", "secret_id", "app_id"}, Organization: "slug",
		},
		"/platform/organizations/{slug}/projects": {
			Target: TargetRule{"project", "", "slug"}, Organization: "slug",
		},
		"/platform/auth/{ref}/config": {
			Target: TargetRule{"project", "ref", ""}, Project: "ref",
		},
		"/platform/auth/{ref}/users/{id}/factors": {
			Target: TargetRule{"user", "id", "ref"}, Project: "ref",
		},
		"/platform/replication/{ref}/sources/{source_id}/publications/{publication_name}": {
			Target: TargetRule{"publication", "publication_name", "source_id"}, Project: "ref",
		},
		"/platform/database/{ref}/backups/pitr": {
			Target: TargetRule{"project", "ref", ""}, Project: "ref",
		},
		"/platform/database/{ref}/backups/download": {
			Target: TargetRule{"backup", "", "ref"}, Project: "ref",
		},
		"/platform/projects/{ref}/analytics/log-drains/{token}": {
			Target: TargetRule{"log_drain", "", "ref"}, Project: "ref", Secrets: []string{"token"},
		},
		"/platform/integrations/vercel/connections/project/{ref}": {
			Target: TargetRule{"project", "ref", ""}, Project: "ref",
		},
		"/platform/integrations/vercel/projects/{organization_integration_id}": {
			Target: TargetRule{"vercel_project", "organization_integration_id", ""},
		},
		"/platform/projects/available-regions":         {Target: TargetRule{Type: "project"}},
		"/platform/profile/access-tokens":              {Target: TargetRule{Type: "access_token"}},
		"/platform/profile/access-tokens/{id}":         {Target: TargetRule{"access_token", "id", ""}},
		"/platform/telemetry/event":                    {},
		"/platform/cli/login/{device_code}":            {Target: TargetRule{Type: "login"}, Secrets: []string{"device_code"}},
		"/platform/verify/{inviteToken}/{ref}/{other}": {Target: TargetRule{"project", "ref", ""}, Project: "ref", Secrets: []string{"inviteToken"}},
	}
	var routes []Route
	for template := range templates {
		routes = append(routes, Route{Method: "GET", Template: template})
	}
	operations, err := dashboardRules.Operations(routes)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range operations {
		want := templates[got.Template]
		want.Method, want.Template = "GET", got.Template
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", got.Template, diff)
		}
	}
	if _, err := NewCatalog(operations); err != nil {
		t.Error(err)
	}
}

func TestZeroRulesReadAnyAPI(t *testing.T) {
	operations, err := Rules{}.Operations([]Route{
		{Method: "GET", Template: "/pets", Code: "listPets"},
		{Method: "GET", Template: "/pets/{petId}", Code: "showPet"},
		{Method: "PUT", Template: "/pets/{petId}/policies/{id}"},
		{Method: "POST", Template: "/pets/{petId}/policies"},
		{Method: "GET", Template: "/{anything}"},
		{Method: "GET", Template: "/"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []Operation{
		{Method: "GET", Template: "/pets", Code: "listPets", Name: "List pets", Target: TargetRule{Type: "pet"}},
		{Method: "GET", Template: "/pets/{petId}", Code: "showPet", Name: "Show pet", Target: TargetRule{"pet", "petId", ""}},
		{Method: "PUT", Template: "/pets/{petId}/policies/{id}", Target: TargetRule{"policy", "id", "petId"}},
		{Method: "POST", Template: "/pets/{petId}/policies", Target: TargetRule{"policy", "", "petId"}},
		{Method: "GET", Template: "/{anything}"},
		{Method: "GET", Template: "/"},
	}
	if diff := cmp.Diff(want, operations); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
}

func TestAParameterMayBeAThingByItself(t *testing.T) {
	templates := map[string]Operation{
		"/integrations":        {Target: TargetRule{Type: "integration"}},
		"/integrations/{slug}": {Target: TargetRule{"organization", "slug", ""}, Organization: "slug"},
		"/orgs/{slug}/members/{user_id}/roles/{role_id}": {Target: TargetRule{"member", "user_id", "slug"}, Organization: "slug"},
		"/orgs/{slug}/members/{user_id}/roles":           {Target: TargetRule{"member", "user_id", "slug"}, Organization: "slug"},
		"/pairs/{left_id}/{right_id}":                    {Target: TargetRule{"right", "right_id", "left_id"}},
		"/pairs/{left_id}":                               {Target: TargetRule{"left", "left_id", ""}},
		"/pairs":                                         {Target: TargetRule{Type: "right"}},
		"/orgs/{slug}/drains/{token}":                    {Target: TargetRule{"drain", "token", "slug"}, Organization: "slug"},
		"/orgs/{slug}/hooks/{token}":                     {Target: TargetRule{"hook", "", "slug"}, Organization: "slug", Secrets: []string{"token"}},
	}
	var routes []Route
	for template := range templates {
		routes = append(routes, Route{Method: "GET", Template: template})
	}
	operations, err := Rules{
		Types: map[string]string{
			"orgs":                typeOrganization,
			"integrations":        "integration",
			"integrations/{}":     typeOrganization,
			"members/{}/roles/{}": "member",
			"pairs":               "right",
			"pairs/{}":            "left",
			"pairs/{}/{}":         "right",
		},
		Identifiers: []string{"drains/{}"},
	}.Operations(routes)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range operations {
		want := templates[got.Template]
		want.Method, want.Template = "GET", got.Template
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", got.Template, diff)
		}
	}
}

func TestNamesComeBeforeTheOperationsID(t *testing.T) {
	operations, err := Rules{Names: map[string]string{"getIt": "Get the thing"}}.Operations([]Route{{Method: "GET", Template: "/a", Code: "getIt"}, {Method: "GET", Template: "/b", Code: "getOther"}})
	if err != nil || operations[0].Name != "Get the thing" || operations[1].Name != "Get other" {
		t.Errorf("operations are %+v, %v", operations, err)
	}
}

func TestRulesRefuseToNameAnUnknownOperation(t *testing.T) {
	_, err := Rules{Names: map[string]string{"tpyo": "Typo"}}.Operations([]Route{{Method: "GET", Template: "/a", Code: "typo"}})
	if err == nil || !strings.Contains(err.Error(), "tpyo") {
		t.Errorf("error is %v", err)
	}
}

func TestRulesRefuseToMarkAnUnknownOperation(t *testing.T) {
	_, err := Rules{Changing: []string{"tpyo"}}.Operations([]Route{{Method: "GET", Template: "/a", Code: "typo"}})
	if err == nil || !strings.Contains(err.Error(), "tpyo") {
		t.Errorf("error is %v", err)
	}
}

func TestParameterNamesThatMeanACredential(t *testing.T) {
	for _, name := range []string{"token", "inviteToken", "invite_token", "client-secret", "code", "device_code", "api_key", "apiKey", "password", "otp"} {
		if !isCredential(name) {
			t.Errorf("{%s} is not taken for a credential", name)
		}
	}
	for _, name := range []string{"id", "token_id", "secret_id", "ref", "slug", "name", "key", "session_id", "gotrue_id"} {
		if isCredential(name) {
			t.Errorf("{%s} is taken for a credential", name)
		}
	}
}

func TestSingular(t *testing.T) {
	for plural, want := range map[string]string{
		"functions": "function", "branches": "branch", "policies": "policy", "indexes": "index",
		"addresses": "address", "statuses": "status", "databases": "database", "status": "status",
		"access": "access", "analysis": "analysis", "api-keys": "api_key", "vectorBuckets": "vector_bucket",
		"third-party-auth": "third_party_auth", "s": "s", "": "",
	} {
		if got := singular(plural); got != want {
			t.Errorf("singular(%q) = %q, want %q", plural, got, want)
		}
	}
}
