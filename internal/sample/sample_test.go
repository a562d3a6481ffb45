package sample

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

func TestASampleIsTheSameEachTimeAndBelievable(t *testing.T) {
	o := Options{Organizations: 1000, Entries: 5000, Until: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC), Span: 30 * 24 * time.Hour}
	var first []string
	owners, codes := map[audit.Owner]int{}, map[string]int{}
	last := o.Until.Add(-o.Span)
	for e, stamp := range Entries(o) {
		stamp.On(e)
		id, err := uuid.Parse(e.ID)
		if err != nil || id.Version() != 7 {
			t.Fatal(e.ID, err)
		}
		at := time.UnixMicro(e.Timestamp)
		if at.Before(last) || at.After(o.Until) || e.Action.Code == "" || e.OrganizationSlug == "" || e.Actor.TokenHash == "" {
			t.Fatalf("%+v", e)
		}
		last = at
		owners[e.Owner()]++
		codes[e.Action.Code]++
		first = append(first, e.ID)
	}
	if len(first) != o.Entries || len(owners) < 500 || owners[audit.OwnerByID(OrganizationOf(0).ID)] < 500 || len(codes) < 15 {
		t.Errorf("%d entries of %d organizations, %d of the first; %d kinds of calls", len(first), len(owners), owners[audit.OwnerByID(OrganizationOf(0).ID)], len(codes))
	}
	i := 0
	for e := range Entries(o) {
		if e.ID != first[i] {
			t.Fatal("the second time it is another one")
		}
		i++
	}
	slugs := map[string]bool{}
	for n := range 3000 {
		slugs[OrganizationOf(n).Slug] = true
	}
	if len(slugs) != 3000 {
		t.Errorf("%d slugs of 3000 organizations", len(slugs))
	}
}
