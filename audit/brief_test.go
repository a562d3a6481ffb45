package audit

import (
	"bytes"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestABriefOfAnAttemptShowsWhatTheAttemptShows(t *testing.T) {
	for _, m := range []Membership{MembershipProven, MembershipUnproven, ""} {
		e := &Entry{
			ID: "018f", Timestamp: 7, OrganizationID: "o", ProjectRef: "p", Membership: m,
			Action:  Action{Code: "c", Method: "GET", Route: "/v1/x", Path: "/v1/x", Status: 403},
			Actor:   Actor{TokenType: "jwt", UserID: "u", Email: "a@b.c", IP: "203.0.113.7", TokenHash: "h"},
			Target:  &Target{Type: "secret", ID: "s", Parent: "p"},
			Outcome: OutcomeDenied,
		}
		b := e.Brief()
		if got, want := b.Attempt(), e.Attempt().Brief(); !reflect.DeepEqual(got, want) {
			t.Errorf("membership %q: got %+v, want %+v", m, got, want)
		}
	}
}

func TestTextsOfABriefAreShortAndStayApart(t *testing.T) {
	long := strings.Repeat("ä", 400)
	a, b := BriefText(long+"a"), BriefText(long+"b")
	if len(a) > MaxBriefText || a == b || BriefText(a) != a {
		t.Errorf("%q (%d bytes) and %q", a, len(a), b)
	}
	if OwnerByID("x") == OwnerBySlug("x") || OwnerByID("") != "" || OwnerBySlug("id:x") == OwnerByID("x") {
		t.Error("an id and a slug name one owner")
	}
}

func TestANetworkIsARangeOfAddresses(t *testing.T) {
	for _, c := range []struct {
		network, ip string
		in          bool
	}{
		{"203.0.113.0/24", "203.0.113.0", true},
		{"203.0.113.0/24", "203.0.113.255", true},
		{"203.0.113.0/24", "203.0.114.0", false},
		{"203.0.113.0/24", "::ffff:203.0.113.9", true},
		{"203.0.113.7/32", "203.0.113.7", true},
		{"2001:db8::/33", "2001:db8:7fff::1", true},
		{"2001:db8::/33", "2001:db8:8000::1", false},
		{"0.0.0.0/0", "255.255.255.255", true},
		{"0.0.0.0/0", "2001:db8::1", false},
		{"::/0", "10.0.0.1", true},
	} {
		first, last := AddressRange(netip.MustParsePrefix(c.network))
		a := Address(c.ip)
		if in := bytes.Compare(first, a) <= 0 && bytes.Compare(a, last) <= 0; in != c.in {
			t.Errorf("%s in %s: %v", c.ip, c.network, in)
		}
	}
	if Address("no address") != nil {
		t.Error("a text that is no address has one")
	}
}
