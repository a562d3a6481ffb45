package audit

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// operation finds what a platform knows of a route.
func (p *Platform) operation(t *testing.T, method, template string) Operation {
	t.Helper()
	for op := range p.Catalog.Operations() {
		if op.Method == method && op.Template == template {
			return *op
		}
	}
	t.Fatalf("there is no %s %s", method, template)
	return Operation{}
}

func TestADescriptionsRoutesGoOverThePlatforms(t *testing.T) {
	base, err := Generic().WithOverrides([]Override{{
		Method: "POST", Template: "/orders/{id}/items/{key}", Code: new("old"), Name: new("Old"), Secrets: new([]string{"key"}),
		Target: &TargetRule{"order", "id", ""}, Changing: new(true), Sensitive: new(true), Secured: new(true),
		Capture: &Capture{Body: []string{"a"}}, Born: new("id"),
	}, {Method: "GET", Template: "/reports"}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := base.WithRoutes([]Route{
		{Method: "POST", Template: "/orders/{order}/items/{item}", Code: "new"},
		{Method: "GET", Template: "/orders/{order}"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Operation{
		Method: "POST", Template: "/orders/{order}/items/{item}", Code: "new", Name: "New",
		Target: TargetRule{Type: "item", Parent: "order"}, Secrets: []string{"item"}, // what was a credential stays one
		Changing: true, Sensitive: true, Capture: Capture{Body: []string{"a"}}, Born: "id",
	}
	if diff := cmp.Diff(want, p.operation(t, "POST", "/orders/{order}/items/{item}")); diff != "" {
		t.Errorf("operation (-want +got):\n%s", diff)
	}
	if n := len(p.Catalog.operations); n != 3 {
		t.Errorf("%d operations", n)
	}
	var m Match
	if !p.Catalog.Match("POST", "/orders/7/items/hunter2", &m) || m.Value("item") != redactedParam {
		t.Errorf("match %+v", m)
	}
	if len(base.Catalog.operations) != 2 || base.operation(t, "POST", "/orders/{id}/items/{key}").Code != "old" || Generic().Catalog != nil {
		t.Error("the platform before has changed")
	}
}

func TestAnOverrideInheritsWhatItDoesNotSay(t *testing.T) {
	p, err := Generic().WithRoutes([]Route{
		{Method: "GET", Template: "/shops/{shop}/orders/{order}", Code: "getOrder", Name: "Get an order", Secured: true},
		{Method: "GET", Template: "/reset/{token}", Code: "reset"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		override Override
		want     Operation
	}{
		"nothing said": {
			Override{Method: "GET", Template: "/shops/{shop}/orders/{order}"},
			Operation{Code: "getOrder", Name: "Get an order", Secured: true, Target: TargetRule{"order", "order", "shop"}},
		},
		"other names": {
			Override{Method: "GET", Template: "/shops/{s}/orders/{o}", Sensitive: new(true)},
			Operation{Code: "getOrder", Name: "Get an order", Secured: true, Sensitive: true, Target: TargetRule{"order", "o", "s"}},
		},
		"no target": {
			Override{Method: "GET", Template: "/shops/{shop}/orders/{order}", Target: &TargetRule{}, Secured: new(false), Code: new("")},
			Operation{Name: "Get an order"},
		},
		"a credential that was the target's id": {
			Override{Method: "GET", Template: "/shops/{shop}/orders/{order}", Secrets: new([]string{"order"})},
			Operation{Code: "getOrder", Name: "Get an order", Secured: true, Target: TargetRule{"order", "", "shop"}, Secrets: []string{"order"}},
		},
		"a public id that was taken for a credential": {
			Override{Method: "GET", Template: "/reset/{token}", Secrets: new([]string{}), Target: &TargetRule{Type: "reset", ID: "token"}},
			Operation{Code: "reset", Name: "Reset", Target: TargetRule{Type: "reset", ID: "token"}, Secrets: []string{}},
		},
		"a new one": {
			Override{Method: "DELETE", Template: "/invoices/{id}/links/{link_token}", Code: new("dropLink")},
			Operation{Code: "dropLink", Name: "Drop link", Target: TargetRule{"link", "", "id"}, Secrets: []string{"link_token"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			over, err := p.WithOverrides([]Override{c.override})
			if err != nil {
				t.Fatal(err)
			}
			c.want.Method, c.want.Template = c.override.Method, c.override.Template
			got := over.operation(t, c.override.Method, c.override.Template)
			if len(got.Secrets) == 0 {
				got.Secrets, c.want.Secrets = nil, nil
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("operation (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnOverrideThatContradictsItselfNamesItsPlace(t *testing.T) {
	for name, o := range map[string]Override{
		"no such parameter": {Target: &TargetRule{Type: "order", ID: "id"}},
		"a credential":      {Target: &TargetRule{Type: "order", ID: "order"}, Secrets: new([]string{"order"})},
		"no such capture":   {Capture: &Capture{Body: []string{"a..b"}}},
		"no such secret":    {Secrets: new([]string{"token"})},
	} {
		o.Method, o.Template, o.At = "GET", "/orders/{order}", "line 7"
		if _, err := Generic().WithOverrides([]Override{o}); err == nil || !strings.HasPrefix(err.Error(), "line 7: ") {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func TestSupabasesOwnDescriptionChangesNothingButNames(t *testing.T) {
	routes, err := readRoutes(supabaseManagement)
	if err != nil {
		t.Fatal(err)
	}
	for i := range routes {
		routes[i].Name = "as the description calls it"
	}
	p, err := Supabase().WithRoutes(routes)
	if err != nil {
		t.Fatal(err)
	}
	before, after := Supabase().Catalog.operations, p.Catalog.operations
	for i := range before {
		want, got := before[i], after[i]
		want.Name, got.Name = "", ""
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %s: %s", want.Method, want.Template, diff)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d operations, want %d", len(after), len(before))
	}
}

func TestWhySaysWhichRuleNamesTheTarget(t *testing.T) {
	p, err := Supabase().WithRoutes([]Route{{Method: "GET", Template: "/shops/{id}"}, {Method: "GET", Template: "/shops/{id}/state"}, {Method: "GET", Template: "/x/{ref}/y"}, {Method: "GET", Template: "/ping"}})
	if err != nil {
		t.Fatal(err)
	}
	for template, want := range map[string]string{
		"/shops/{id}":       `segment 1, "shops", which a parameter follows in some route`,
		"/shops/{id}/state": `segment 1, "shops", which a parameter follows in some route`,
		"/x/{ref}/y":        "the platform's rule that {ref} is a project",
		"/ping":             "nothing in the template is a collection or named by a rule",
		"/v1/projects/{ref}/functions/{function_slug}": `the platform's rule "functions": "edge_function"`,
	} {
		op := p.operation(t, "GET", template)
		if got := p.Why(&op); got != want {
			t.Errorf("%s: %s, want %s", template, got, want)
		}
	}
}
