package audit

import (
	"slices"
	"strings"
	"testing"
	"time"
)

var organizationClaims = map[string]string{
	"organization_id": "app_metadata.org.id", "organization_slug": "app_metadata.org.slug", "organization_plan": "app_metadata.org.plan",
}

// issued verifies tokens of an issuer that says whose they are.
func issued(t *testing.T) *Deriver {
	d := deriver()
	d.Verifier = verifyAll{testIssuer(t, Supabase(), organizationClaims), issuerKeys().keys}
	return d
}

func ofOrganization(org map[string]any) string {
	return "Bearer " + session(map[string]any{"app_metadata": map[string]any{"org": org}})
}

func organizationOf(e *Entry) string {
	return e.OrganizationID + " " + e.OrganizationSlug + " " + e.OrganizationPlan
}

func TestAVerifiedClaimSaysWhoseACallIsThatNamesNothing(t *testing.T) {
	acme := map[string]any{"id": "o-1", "slug": "acme", "plan": "team"}
	d := issued(t)
	for _, c := range []struct {
		name, path string
		org        map[string]any
		want       string
	}{
		{"all of it", "/v1/projects", acme, "o-1 acme team"},
		{"an id alone", "/v1/projects", map[string]any{"id": "o-1"}, "o-1  "},
		{"a plan alone", "/v1/projects", map[string]any{"plan": "team"}, "  "},
		{"another type", "/v1/projects", map[string]any{"id": 7, "slug": []any{"acme"}, "plan": true}, "  "},
		{"a path with an organization", "/v1/organizations/other", acme, " other "},
		{"a path with a project", "/v1/projects/abcdefghijklmnopqrst", acme, "  "},
		{"a long id", "/v1/projects", map[string]any{"id": strings.Repeat("x", 5000), "slug": "acme"}, strings.Repeat("x", maxText) + " acme "},
	} {
		e, _ := d.Intent(&Call{Arrived: arrival(), Method: "GET", Path: c.path, Authorization: ofOrganization(c.org)})
		if got := organizationOf(e); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if cut := e.Cut["organization_id"]; (cut == 5000) != (c.name == "a long id") {
			t.Errorf("%s: cut %v", c.name, e.Cut)
		}
	}
	// Nobody's word is taken for it.
	forged := ofOrganization(acme)
	e, _ := d.Intent(&Call{Arrived: arrival(), Method: "GET", Path: "/v1/projects", Authorization: forged[:len(forged)-4] + "AAAA"})
	if got := organizationOf(e); got != "  " {
		t.Errorf("a forged token says %q", got)
	}
}

func TestAServicesAnswerSaysWhoseACredentialIs(t *testing.T) {
	for _, make := range []func(*Platform, map[string]string) (*Account, error){NewIntrospection, NewProfile} {
		a, err := make(nil, map[string]string{"organization_id": "org.id", "organization_plan": "org.plan"})
		if err != nil {
			t.Fatal(err)
		}
		id, why := a.Identity([]byte(`{"active":true,"sub":"u-1","id":"u-1","org":{"id":17,"plan":"team"}}`), arrival().Add(time.Minute))
		if why != "" {
			t.Fatal(why)
		}
		// It is there from the start, or comes later.
		d := deriver()
		d.Memory = &recalling{id: id}
		call := &Call{Arrived: arrival(), Method: "GET", Path: "/v1/projects", Authorization: "Bearer " + robotToken}
		e, _ := d.Intent(call)
		if got := organizationOf(e); got != "17  team" {
			t.Errorf("recalled %q", got)
		}
		e, _ = deriver().Intent(call)
		if !e.Learned(id, "") || organizationOf(e) != "17  team" {
			t.Errorf("learned %q", organizationOf(e))
		}
		call.Path = "/v1/organizations/other"
		e, _ = deriver().Intent(call)
		if !e.Learned(id, "") || organizationOf(e) != " other " {
			t.Errorf("learned %q", organizationOf(e))
		}
	}
}

func TestWhatTheAPIAssertsOfTheOrganization(t *testing.T) {
	d := issued(t)
	said := func(id, slug, plan string) map[string]string {
		return map[string]string{"organization_id": id, "organization_slug": slug, "organization_plan": plan}
	}
	for _, c := range []struct {
		name, path string
		token      map[string]any // of which organization
		said       map[string]string
		want       string
	}{
		{"all of it", "/v1/projects", nil, said("o-1", "acme", "team"), "o-1 acme team"},
		{"of a project", "/v1/projects/abcdefghijklmnopqrst", map[string]any{"id": "o-9"}, said("o-1", "acme", "team"), "o-1 acme team"},
		{"beside a path", "/v1/organizations/acme", nil, said("o-1", "", "team"), "o-1 acme team"},
		{"another slug than in the path", "/v1/organizations/old-name", nil, said("o-1", "acme", "team"), "o-1 old-name team"},
		{"the same as the token", "/v1/projects", map[string]any{"id": "o-1"}, said("o-1", "acme", "team"), "o-1 acme team"},
		{"another one than the token", "/v1/projects", map[string]any{"id": "o-1"}, said("o-2", "other", "team"), "o-1  "},
		{"another slug than the token", "/v1/projects", map[string]any{"id": "o-1", "slug": "acme"}, said("", "other", "team"), "o-1 acme "},
		{"another plan than the token", "/v1/projects", map[string]any{"id": "o-1", "plan": "free"}, said("o-1", "acme", "team"), "o-1 acme free"},
		{"nothing", "/v1/projects", nil, said("", "", ""), "  "},
	} {
		e, _ := d.Intent(&Call{Arrived: arrival(), Method: "GET", Path: c.path, Authorization: ofOrganization(c.token)})
		e.Assert(Supabase(), c.said)
		if got := organizationOf(e); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if !slices.Contains(AssertableFields(), "organization_plan") || CheckAssertable("organization_plan") != nil {
		t.Errorf("the API can assert %v", AssertableFields())
	}
	e := new(Entry)
	e.Assert(nil, said("sbp_"+hex40, strings.Repeat("x", 5000), ""))
	if e.OrganizationID != redactedParam || len(e.OrganizationSlug) != maxText || e.Cut["organization_slug"] != 5000 {
		t.Errorf("what the API asserts is not bounded: %s %v", e.OrganizationID, e.Cut)
	}
}

// Whatever comes later, what was said of the organization is in each further revision.
func TestTheOrganizationIsInAllRevisions(t *testing.T) {
	d := issued(t)
	e, _ := d.Intent(&Call{
		Arrived: arrival(), Method: "GET", Path: "/v1/projects", Bytes: -1,
		Authorization: ofOrganization(map[string]any{"id": "o-1", "plan": "team"}),
	})
	check := func(when, want string, b []byte) {
		t.Helper()
		if got, err := Decode(b); err != nil || organizationOf(got) != want {
			t.Errorf("%s: %q, %v, want %q", when, organizationOf(got), err, want)
		}
	}
	encoded := func() []byte {
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	check("the intent", "o-1  team", encoded())
	check("pending", "o-1  team", Pending(encoded(), arrival()))
	e.Answered(Answer{At: arrival(), Status: 200, Bytes: -1})
	check("the answer", "o-1  team", encoded())
	e.Assert(Supabase(), map[string]string{"organization_id": "o-1", "organization_slug": "acme", "organization_plan": "team"})
	check("asserted", "o-1 acme team", encoded())
	e.Learned(nil, ReasonInactive)
	e.Revised(arrival())
	check("revised", "o-1 acme team", encoded())
	e.Answered(Answer{At: arrival(), Status: 502, Source: StatusWritten, Bytes: 3, ClientGone: true, Changing: true})
	check("the end", "o-1 acme team", encoded())
}

func TestWhichOperationsHandAProjectOver(t *testing.T) {
	var got []string
	for op := range Supabase().Catalog.Operations() {
		if op.Transfers {
			got = append(got, strings.TrimSpace("transfers "+op.Code+" "+op.Project))
		}
		if op.Offers {
			got = append(got, "offers "+op.Code+" "+op.Project)
		}
	}
	slices.Sort(got)
	want := []string{
		"offers v1-create-project-claim-token ref",
		"transfers ProjectTransferController_transferProject ref",
		"transfers v1-claim-project-for-organization", // its token names the project
	}
	if !slices.Equal(got, want) {
		t.Errorf("they are %q", got)
	}
	// What is called like it and does something else, and what does it and is called
	// otherwise.
	for op := range Supabase().Catalog.Operations() {
		text := strings.ToLower(op.Code + " " + op.Template)
		if !strings.Contains(text, "transfer") && !strings.Contains(text, "claim") {
			continue
		}
		switch op.Code {
		case "ProjectTransferController_previewTransfer", "v1-get-project-claim-token", "v1-delete-project-claim-token",
			"v1-get-organization-project-claim", "v1-oauth-authorize-project-claim":
		default:
			if !op.Transfers && !op.Offers {
				t.Errorf("%s %s: does it hand a project over?", op.Method, op.Template)
			}
		}
	}
	p, err := Supabase().WithOverrides([]Override{{Method: "POST", Template: "/v2/projects/{ref}/move", Transfers: new(true), Offers: new(true)}})
	if err != nil {
		t.Fatal(err)
	}
	if op := p.operation(t, "POST", "/v2/projects/{ref}/move"); !op.Transfers || !op.Offers || op.Project != "ref" {
		t.Errorf("%+v", op)
	}
	p, err = p.WithRoutes([]Route{{Method: "POST", Template: "/platform/projects/{project}/transfer"}})
	if err != nil {
		t.Fatal(err)
	}
	if op := p.operation(t, "POST", "/platform/projects/{project}/transfer"); !op.Transfers {
		t.Error("a description takes it away")
	}
	var m Match
	if !p.Catalog.Match("PATCH", "/v2/projects/abc/move", &m) || m.Operation.Transfers || m.Operation.Offers {
		t.Errorf("another method hands it over: %+v", m.Operation)
	}
}
