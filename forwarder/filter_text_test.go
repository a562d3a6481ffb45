package forwarder

import (
	"bytes"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

func TestAStatusIsANumberAClassOrARange(t *testing.T) {
	for text, want := range map[string]StatusRange{
		"404": {404, 404}, "0": {0, 0}, "999": {999, 999}, "4xx": {400, 499}, "5XX": {500, 599}, "1xX": {100, 199},
		"400-499": {400, 499}, "0-999": {0, 999}, "404-404": {404, 404},
	} {
		if got, err := ParseStatus(text); err != nil || got != want {
			t.Errorf("%q is %v: %v", text, got, err)
		}
	}
	for _, text := range []string{"", "-", "x", "xx", "xxx", "0xx", "6xx", "4xxx", "4x", "1000", "-1", "404-", "-404", "499-400", "400-1000", "400-499-500", " 404", "4.5", "٤٠٤", "99999999999999999999"} {
		if got, err := ParseStatus(text); err == nil || got != (StatusRange{}) {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestANetworkIsAnAddressOrAPrefix(t *testing.T) {
	for text, want := range map[string]string{
		"203.0.113.7": "203.0.113.7/32", " 203.0.113.7\n": "203.0.113.7/32", "203.0.113.7/24": "203.0.113.0/24", "0.0.0.0/0": "0.0.0.0/0",
		"2001:db8::7": "2001:db8::7/128", "2001:db8::7/32": "2001:db8::/32", "fe80::1%eth0": "fe80::1/128", "::/0": "::/0",
		"::ffff:203.0.113.7": "203.0.113.7/32", "::ffff:203.0.113.7/120": "203.0.113.0/24", "::ffff:203.0.113.7/96": "0.0.0.0/0",
	} {
		if got, err := ParseNetwork(text); err != nil || got.String() != want {
			t.Errorf("%q is %v, want %s: %v", text, got, want, err)
		}
	}
	for _, text := range []string{"", " ", "x", "203.0.113", "203.0.113.7/33", "203.0.113.7/-1", "203.0.113.7/", "2001:db8::/129", "fe80::1%eth0/64", "203.0.113.1-203.0.113.9", "example.com"} {
		if got, err := ParseNetwork(text); err == nil || got.IsValid() {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestEachFacetHasAFilterThatTakesItsValues(t *testing.T) {
	var f Filters
	for _, by := range Facets {
		value := map[Facet]string{FacetStatus: "4xx", FacetNetwork: "203.0.113.0/24", FacetMethod: "patch"}[by]
		if value == "" {
			value = "a " + string(by)
		}
		if err := f.Add(by, value); err != nil {
			t.Errorf("%s: %v", by, err)
		}
	}
	want := Filters{
		Actors: []string{"a actor"}, Projects: []string{"a project"}, Actions: []string{"a action"}, Methods: []string{"PATCH"}, Targets: []string{"a target"},
		TokenTypes: []string{"a token_type"}, Outcomes: []string{"a outcome"}, Statuses: []StatusRange{{400, 499}}, Networks: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")},
	}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("the filters are %+v", f)
	}
}

func TestAFilterThatCannotBeTakenChangesNothingAndIsNotRepeated(t *testing.T) {
	const secret = "s3cret"
	for _, c := range []struct {
		by    Facet
		value string
	}{
		{FacetStatus, secret},
		{FacetNetwork, secret},
		{secret, "x"},
		{"", "x"},
		{"text", secret},
		{FacetActor, strings.Repeat("s3cret-x", MaxFilterValue/8) + "x"},
		{FacetTarget, secret + "\xff"},
	} {
		var f Filters
		if err := f.Add(c.by, c.value); err == nil || strings.Contains(err.Error(), secret) || !reflect.DeepEqual(f, Filters{}) {
			t.Errorf("%s %q: %v, %+v", c.by, c.value, err, f)
		}
	}
	if err := new(Filters).Add(FacetActor, strings.Repeat("x", MaxFilterValue)); err != nil {
		t.Error(err)
	}
}

func FuzzParseStatus(f *testing.F) {
	for _, text := range []string{"404", "4xx", "5XX", "400-499", "0-999", "-", "499-400", "+20", "0404", "6xx", "4-", "1000"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseStatus(text)
		if err != nil {
			if r != (StatusRange{}) {
				t.Errorf("%q is %v: %v", text, r, err)
			}
			return
		}
		if r.First < 0 || r.First > r.Last || r.Last > 999 {
			t.Errorf("%q is %v", text, r)
		}
		filters := Filters{Statuses: []StatusRange{r}}
		for status := r.First - 1; status <= r.Last+1; status++ {
			if filters.Match(&audit.Brief{Status: status}) != (r.First <= status && status <= r.Last) {
				t.Errorf("%q does not have what it says: %d", text, status)
			}
		}
	})
}

func FuzzParseNetwork(f *testing.F) {
	for _, text := range []string{"203.0.113.7", "203.0.113.7/24", "::/0", "2001:db8::7/33", "::ffff:203.0.113.7/120", "::ffff:203.0.113.7/90", "fe80::1%eth0", "fe80::%x/64", "1.2.3.4/33", "/"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseNetwork(text)
		if err != nil {
			if p.IsValid() {
				t.Errorf("%q is %v: %v", text, p, err)
			}
			return
		}
		if !p.IsValid() || p != p.Masked() {
			t.Fatalf("%q is %v", text, p)
		}
		if again, err := ParseNetwork(p.String()); err != nil || again != p {
			t.Errorf("%q is %v, and that is %v: %v", text, p, again, err)
		}
		first, last := audit.AddressRange(p)
		filters := Filters{Networks: []netip.Prefix{p}}
		if bytes.Compare(first, last) > 0 || !filters.Match(&audit.Brief{Address: first}) || !filters.Match(&audit.Brief{Address: last}) {
			t.Errorf("%q does not have what it says: %v to %v", text, first, last)
		}
		address, _, _ := strings.Cut(strings.TrimSpace(text), "/")
		if b := audit.Address(address); b != nil && !filters.Match(&audit.Brief{Address: b}) {
			t.Errorf("%q does not have its own address", text)
		}
	})
}
