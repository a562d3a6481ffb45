package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// checkOwners says by itself that nothing of another owner is among what was read.
func (s *subject) checkOwners(q *forwarder.Query, docs []string) {
	s.Helper()
	if len(q.Owners) == 0 {
		return
	}
	for _, doc := range docs {
		if e := decode(s, []byte(doc)); !slices.Contains(q.Owners, e.Owner()) {
			s.Fatalf("a query for the entries of %q yields entry %s of %q", q.Owners, name(e), e.Owner())
		}
	}
}

// checkPages reads page by page, and compares that with reading all at once.
func (s *subject) checkPages(r forwarder.Reader, q forwarder.Query, highest []forwarder.Record) {
	s.Helper()
	q.Limit = 0
	want := selected(highest, q)
	q.Limit = max(3, len(want)/4)
	var got []string
	for {
		page := s.read(r, q)
		if got = append(got, page...); len(page) < q.Limit || len(got) > len(want) {
			break
		}
		last := decode(s, []byte(page[len(page)-1]))
		q.After = forwarder.Place{Timestamp: last.Timestamp, ID: last.ID}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.Fatalf("%T, page by page, %+v (-want +got):\n%s", r, q, diff)
	}
}

// checkBriefs compares the Briefs of a query with those of the entries that it selects.
func (s *subject) checkBriefs(b forwarder.Browser, q forwarder.Query, want []forwarder.Record) {
	s.Helper()
	n := 0
	for got, err := range b.Briefs(context.Background(), q) {
		if err != nil {
			s.Fatalf("reading the Briefs of %+v: %v", q, err)
		}
		if n == len(want) {
			s.Fatalf("%T, Briefs of %+v: there are more than %d", b, q, n)
		}
		if diff := cmp.Diff(want[n].Entry.Brief(), *got); diff != "" {
			s.Fatalf("%T, Brief %d of %+v (-want +got):\n%s", b, n, q, diff)
		}
		n++
	}
	if n != len(want) {
		s.Fatalf("%T, Briefs of %+v: there are %d, want %d", b, q, n, len(want))
	}
}

// checkBeats compares the last signs of life with the entries.
func (s *subject) checkBeats(b forwarder.Browser, highest []forwarder.Record) {
	s.Helper()
	want := map[string]string{}
	for _, r := range highest {
		switch code := r.Entry.Action.Code; {
		case !r.Entry.IsEvent():
		case code == audit.EventHeartbeat, code == audit.EventStarted, code == audit.EventStopped:
			want[r.Entry.Origin.Instance] = fmt.Sprint(r.Entry.Timestamp, " stopped ", code == audit.EventStopped)
		}
	}
	beats, err := b.Beats(context.Background())
	if err != nil {
		s.Fatalf("reading the last signs of life: %v", err)
	}
	got := map[string]string{}
	for _, beat := range beats {
		if _, twice := got[beat.Instance]; twice {
			s.Errorf("%T has two last signs of life of %s", b, beat.Instance)
		}
		got[beat.Instance] = fmt.Sprint(beat.At.UnixMicro(), " stopped ", beat.Stopped)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.Fatalf("%T, last signs of life (-want +got):\n%s", b, diff)
	}
}

// randomQuery sets some fields, most of them to what one of the entries has: so that
// something is found, and so that asking for what a member must not see is tried.
func randomQuery(rng *rand.Rand, entries []forwarder.Record) (q forwarder.Query) {
	some := func(format string, n int) string {
		if rng.IntN(4) != 0 {
			return ""
		}
		return fmt.Sprintf(format, rng.IntN(n+1)) // one more than there are
	}
	if rng.IntN(3) == 0 {
		q.Session, q.User = some("session-%d", 6), some("user-%d", 4)
		q.IP = some("203.0.113.%d", 3)
		q.Trail.Session = some("session-%d", 6)
		if rng.IntN(4) == 0 {
			q.Trail.Hashes = []string{hash(rng.IntN(8)), hash(100 + rng.IntN(2))}
		}
	}
	q.Organization = some("org-%d", 5)
	one := oneOf(rng, entries).Entry
	if rng.IntN(2) == 0 {
		q.Owners = []audit.Owner{one.Owner(), oneOf(rng, entries).Entry.Owner(), audit.OwnerByID("nobody")}[:1+rng.IntN(3)]
	}
	q.AsMember = rng.IntN(2) == 0
	q.Events = rng.IntN(6) == 0
	q.Filters = randomFilters(rng, one, oneOf(rng, entries).Entry)
	at := func() time.Time {
		if rng.IntN(5) != 0 {
			return time.Time{}
		}
		return time.UnixMicro(epoch + rng.Int64N(42) - 1).Add(time.Duration(rng.IntN(2)) * 500)
	}
	q.From, q.To = at(), at()
	q.NewestFirst = rng.IntN(2) == 0
	if rng.IntN(3) == 0 {
		q.Limit = 1 + rng.IntN(20)
	}
	if rng.IntN(4) == 0 {
		last := oneOf(rng, entries).Entry
		// What has it may be gone, or never have been.
		q.After = forwarder.Place{Timestamp: last.Timestamp + rng.Int64N(3) - 1, ID: last.ID + oneOf(rng, []string{"", "", "0"})}
	}
	return q
}

// randomFilters asks for values of an entry, and of another one.
func randomFilters(rng *rand.Rand, one, other *audit.Entry) (f forwarder.Filters) {
	values := func(of func(e *audit.Entry) string) (all []string) {
		if rng.IntN(8) != 0 {
			return nil
		}
		all = []string{of(one)}
		switch rng.IntN(6) {
		case 0:
			all = append(all, of(other), "no such thing")
		case 1: // texts are compared as they are
			all = []string{strings.ToUpper(all[0]), ""}
		case 2: // a Brief's own text is what it stands for
			all = []string{audit.BriefText(all[0]), all[0]}
		}
		return all
	}
	f.Actors = values(func(e *audit.Entry) string { return oneOf(rng, []string{e.Actor.Key(), e.Actor.Email}) })
	f.Projects = values(func(e *audit.Entry) string { return e.ProjectRef })
	f.Actions = values(func(e *audit.Entry) string { return e.Brief().Action })
	f.Methods = values(func(e *audit.Entry) string { return e.Action.Method })
	f.TokenTypes = values(func(e *audit.Entry) string {
		return oneOf(rng, []string{string(e.Actor.TokenType), string(audit.TokenUnknown)})
	})
	f.Outcomes = values(func(e *audit.Entry) string { return string(e.Outcome) })
	f.Targets = values(func(e *audit.Entry) string {
		if e.Target == nil {
			return "/"
		}
		return oneOf(rng, []string{e.Target.Type, e.Target.ID, e.Target.Type + "/" + e.Target.ID, "/" + e.Target.ID, e.Target.Type + "/"})
	})
	if rng.IntN(8) == 0 {
		f.Statuses = []forwarder.StatusRange{{First: 200, Last: 299}, {First: 0, Last: 0}, {First: 401, Last: 404}, {First: 500, Last: 499}}[rng.IntN(4):]
	}
	if rng.IntN(8) == 0 {
		for _, network := range []string{"203.0.113.0/24", "0.0.0.0/0", "::/0", "2001:db8::/33", "::ffff:203.0.113.0/127", "203.0.113.2/32", "10.0.0.0/8"}[rng.IntN(7):] {
			if f.Networks = append(f.Networks, netip.MustParsePrefix(network)); rng.IntN(2) == 0 {
				break
			}
		}
	}
	if rng.IntN(5) == 0 {
		f.Text = randomText(rng, one)
	}
	return f
}

// randomText is a part of what people know an entry by, in one case or the other; or
// what is in an entry and nobody knows it by.
func randomText(rng *rand.Rand, e *audit.Entry) string {
	a := &e.Actor
	text := []rune(oneOf(rng, []string{
		e.Action.Code, e.Action.Name, e.Action.Path, e.Action.Method, e.ProjectRef, e.RequestID, e.ID, a.UserID, a.Email, a.IP, a.OAuthAppName,
		a.JWTSubject, a.TokenAlias, a.UserAgent, string(a.TokenType), string(audit.TokenUnknown), "%", "_", "\"", "\\u", "default", "strict",
	}))
	if len(text) > 4 && rng.IntN(2) == 0 {
		from := rng.IntN(len(text) - 3)
		text = text[from : from+3+rng.IntN(len(text)-from-2)]
	}
	switch rng.IntN(3) {
	case 0:
		return strings.ToUpper(string(text))
	case 1:
		return strings.ToLower(string(text))
	}
	return string(text)
}
