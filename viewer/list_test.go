package viewer

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/internal/trials"
)

func TestAClientOfTheReferenceProductIsAnsweredUnchanged(t *testing.T) {
	r := newRig(t)
	old, recent := entryOf("acme", 30*time.Hour), entryOf("acme", time.Hour)
	r.write(old, recent, entryOf("other", time.Hour))
	resp := r.get("member:acme", auditPath("acme")+"?iso_timestamp_start="+url.QueryEscape(iso(now().Add(-48*time.Hour)))+"&iso_timestamp_end="+url.QueryEscape(iso(now())))
	text := body(t, resp)
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") || !strings.HasPrefix(text, `{"result":[`) {
		t.Fatalf("%s %v %.200s", resp.Status, resp.Header, text)
	}
	l, _ := r.list("member:acme", auditPath("acme")+"?iso_timestamp_start="+url.QueryEscape(iso(now().Add(-48*time.Hour))))
	if len(l.Result) != 2 || l.Result[0].ID != recent.ID || l.Result[1].ID != old.ID || l.RetentionPeriod != allDays || l.NextCursor != "" {
		t.Fatalf("%+v", l)
	}
	got := l.Result[0]
	want := *recent
	want.Actor.PeerIP = ""
	if diff := gocmp.Diff(&want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Without a range it is the last 24 hours.
	if l, _ = r.list("member:acme", auditPath("acme")); len(l.Result) != 1 || l.Result[0].ID != recent.ID {
		t.Errorf("%d entries in the last 24 hours, want the one", len(l.Result))
	}
}

func TestAPageGoesOnWhereTheOneBeforeEnded(t *testing.T) {
	r := newRig(t)
	var want []string
	var all []*audit.Entry
	for n := range 2*partEntries + 7 {
		e := entryOf("acme", time.Duration(n/3)*time.Second)
		all = append(all, e)
	}
	r.write(all...)
	slices.SortFunc(all, func(a, b *audit.Entry) int {
		if a.Timestamp != b.Timestamp {
			return int(b.Timestamp - a.Timestamp)
		}
		return strings.Compare(b.ID, a.ID)
	})
	for _, e := range all {
		want = append(want, e.ID)
	}
	for _, limit := range []int{50, partEntries, 1000, 0} {
		var got []string
		for path := auditPath("acme") + fmt.Sprintf("?limit=%d", limit); ; {
			if limit == 0 {
				path = auditPath("acme")
			}
			l, status := r.list("member:acme", path)
			if status != 200 {
				t.Fatal(status, l.Message)
			}
			for _, e := range l.Result {
				got = append(got, e.ID)
			}
			if l.NextCursor == "" || len(got) > len(want) {
				break
			}
			path = auditPath("acme") + fmt.Sprintf("?limit=%d&cursor=%s", limit, l.NextCursor)
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("limit %d (-want +got):\n%s", limit, diff)
		}
	}
}

func TestWhoMayNotReadIsToldWhy(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.Readable = &audit.Readable{Plans: map[string]audit.Range{"free": {}, "team": {Term: audit.Days(62)}}}
	})
	r.plans["acme"], r.plans["poor"] = "team", "free"
	r.write(entryOf("acme", time.Hour), entryOf("acme", 70*24*time.Hour), entryOf("poor", time.Hour))
	for _, c := range []struct {
		token, path string
		status      int
		message     string
	}{
		{"", auditPath("acme"), 401, "Unauthorized"},
		{"member:other", auditPath("acme"), 403, "additional permissions"},
		{"member:poor", auditPath("poor"), 402, "upgrade to a plan"},
		{"member:acme", auditPath("acme") + "?iso_timestamp_start=2020-01-01T00:00:00Z", 400, "range exceeded"},
		{"member:acme", auditPath("acme") + "/entries/" + idAt(time.Now()), 404, "no such entry"},
		{"", "/platform/profile/audit", 401, "Unauthorized"},
		{"", "/nowhere", 404, "/openapi.json"},
	} {
		l, status := r.list(c.token, c.path)
		if status != c.status || !strings.Contains(l.Message, c.message) || l.Result != nil {
			t.Errorf("%s as %q: %d %q, want %d %q", c.path, c.token, status, l.Message, c.status, c.message)
		}
	}
	// The plan bounds how far back is read, and not what may be asked for.
	l, status := r.list("member:acme", auditPath("acme")+"?iso_timestamp_start="+iso(now().Add(-100*24*time.Hour)))
	if status != 200 || len(l.Result) != 1 || l.RetentionPeriod != 62 {
		t.Errorf("%d %+v", status, l)
	}
	// An operator reads by no plan.
	if l, status = r.list("operator", auditPath("poor")); status != 200 || len(l.Result) != 1 {
		t.Errorf("an operator: %d %+v", status, l)
	}
}

func TestWhatCannotBeAskedForIsAnErrorThatSaysSo(t *testing.T) {
	r := newRig(t)
	r.write(entryOf("acme", time.Hour), entryOf("acme", 2*time.Hour), entryOf("other", time.Hour), entryOf("other", 2*time.Hour))
	l, _ := r.list("member:other", auditPath("other")+"?limit=1")
	others := l.NextCursor
	l, _ = r.list("member:acme", auditPath("acme")+"?limit=1")
	own := l.NextCursor
	if own == "" || others == "" {
		t.Fatal("there is no cursor")
	}
	raw, err := base64.RawURLEncoding.DecodeString(own)
	if err != nil {
		t.Fatal(err)
	}
	raw[4] ^= 1
	many := strings.Repeat("actor=x&", 10_000)
	start, end := iso(now().Add(-time.Hour)), iso(now())
	for query, message := range map[string]string{
		"cursor=" + others: "cursor", "cursor=" + base64.RawURLEncoding.EncodeToString(raw): "cursor", "cursor=" + own[:len(own)-5]: "cursor",
		"cursor=AAAA": "cursor", "cursor=" + strings.Repeat("A", 5000): "cursor", "cursor=%00%ff": "cursor", "cursor=" + own + "=": "cursor",
		"iso_timestamp_start=" + end + "&iso_timestamp_end=" + start:     "before",
		"iso_timestamp_start=" + start + "&iso_timestamp_end=" + start:   "before",
		"iso_timestamp_start=2016-01-01T00:00:00Z":                       "range exceeded",
		"iso_timestamp_start=yesterday":                                  "no time",
		"iso_timestamp_start=" + start + "&iso_timestamp_start=" + start: "more than once",
		"iso_timestamp_end=99999-01-01T00:00:00Z":                        "no time",
		"limit=0": "limit", "limit=-1": "limit", "limit=1000000000": "limit", "limit=1e3": "limit", "limit=%31%30%00": "limit",
		strings.Repeat("actor=x&", 1000): "filters", many: "query string", "text=" + strings.Repeat("a", 513): "longer", "actor=%ff%fe": "no text",
		"status=abc": "status", "status=500-400": "status", "status=-1": "status", "ip=999.1.1.1": "ip", "ip=10.0.0.0/33": "ip",
		"token_hash=abc": "token_hash", "a=%zz": "query string",
	} {
		l, status := r.list("member:acme", auditPath("acme")+"?"+query)
		if status != 400 || !strings.Contains(l.Message, message) || l.Result != nil {
			t.Errorf("%.80s: %d %q, want 400 and %q", query, status, l.Message, message)
		}
	}
	// 1 ms is a range as any other, and SQL is a text.
	for _, query := range []string{
		"iso_timestamp_start=" + iso(now().Add(-time.Millisecond)),
		"actor=" + url.QueryEscape(`'; DROP TABLE entry; --`) + "&text=" + url.QueryEscape(`%' OR 1=1 --`) + "&target=" + url.QueryEscape(`a/b' UNION SELECT * FROM entry --`),
		"project=%25&action=_&method=" + url.QueryEscape(`"`) + "&outcome=" + url.QueryEscape(`\`),
	} {
		if l, status := r.list("member:acme", auditPath("acme")+"?"+query); status != 200 || len(l.Result) != 0 {
			t.Errorf("%s: %d %+v", query, status, l)
		}
	}
	if l, _ := r.list("member:acme", auditPath("acme")); len(l.Result) != 2 {
		t.Errorf("%d entries are left", len(l.Result))
	}
}

// What is not proven to come from a member is a refused attempt without its caller, and no
// filter tells more than the answer shows.
func TestAMemberLearnsNothingOfAStranger(t *testing.T) {
	r := newRig(t)
	e := entryOf("acme", time.Hour)
	e.Membership, e.Outcome, e.Action.Status = audit.MembershipUnproven, audit.OutcomeDenied, 403
	e.Actor.Email, e.Actor.IP, e.Actor.UserID = "eve@other.example", "198.51.100.66", "eve"
	e.Actor.TokenHash = strings.Repeat("e", 64)
	r.write(e)
	text := body(t, r.get("member:acme", auditPath("acme")))
	for _, secret := range []string{"eve@", `"eve"`, "198.51.100.66", "curl/8", "10.1.2.3", instance, `"origin"`, "peer_ip", strings.Repeat("e", 64), "/functions/hello"} {
		if strings.Contains(text, secret) {
			t.Errorf("a member is shown %q: %s", secret, text)
		}
	}
	if !strings.Contains(text, e.ID) || !strings.Contains(text, "v1-update-function") {
		t.Errorf("the attempt is not shown: %s", text)
	}
	for query, members := range map[string]int{
		"actor=eve": 0, "actor=eve@other.example": 0, "ip=198.51.100.0/24": 0, "token_hash=" + strings.Repeat("e", 64): 0, "text=curl": 0, "text=198.51": 0,
		"target=edge_function/hello": 0, "token_type=jwt": 0, "token_type=unknown": 1, "outcome=denied": 1, "status=4xx": 1, "target=edge_function": 1,
	} {
		if l, status := r.list("member:acme", auditPath("acme")+"?"+query); status != 200 || len(l.Result) != members {
			t.Errorf("%s: a member sees %d entries, want %d (%d)", query, len(l.Result), members, status)
		}
		if l, status := r.list("operator", auditPath("acme")+"?"+query); status != 200 || (len(l.Result) == 1) != (query != "token_type=unknown") {
			t.Errorf("%s: an operator sees %d entries (%d)", query, len(l.Result), status)
		}
	}
	all := body(t, r.get("operator", auditPath("acme")))
	for _, fact := range []string{"eve@other.example", instance, "10.1.2.3"} {
		if !strings.Contains(all, fact) {
			t.Errorf("an operator is not shown %q", fact)
		}
	}
	one := body(t, r.get("member:acme", auditPath("acme")+"/entries/"+e.ID))
	if strings.Contains(one, `"eve"`) || !strings.Contains(one, e.ID) {
		t.Errorf("by its id: %s", one)
	}
}

// Random filters, ranges and cursors over many organizations, against what Matches says of
// all entries: nothing of another organization's, and nothing too few.
func TestNobodyEverReadsAnotherOrganizationsEntries(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { checkTenants(t, newRig(t), trials.Rounds(150, 1000)) })
	t.Run("postgres", func(t *testing.T) { checkTenants(t, newPostgresRig(t), trials.Rounds(60, 400)) })
}

func checkTenants(t *testing.T, r *rig, queries int) {
	rng := rand.New(rand.NewPCG(7, uint64(time.Now().UnixNano())))
	one := func(of ...string) string { return of[rng.IntN(len(of))] }
	var all []*audit.Entry
	const organizations = 12
	for n := range 1500 {
		slug := fmt.Sprintf("org-%d", rng.IntN(organizations))
		e := entryOf(slug, time.Duration(n)*time.Second)
		switch rng.IntN(4) {
		case 0: // its id is not known
			e.OrganizationID = ""
		case 1: // its slug was another organization's
			e.OrganizationSlug = fmt.Sprintf("org-%d", rng.IntN(organizations))
		}
		e.ProjectRef = one("ref-1", "ref-2", "")
		e.Action.Code, e.Action.Method = one("a", "b", ""), one("GET", "POST")
		e.Action.Status = []int{200, 201, 403, 404, 500}[rng.IntN(5)]
		e.Outcome = audit.OutcomeOf(e.Action.Status)
		e.Actor.UserID, e.Actor.Email, e.Actor.IP = one("u-1", "u-2", ""), one("ann@example.com", "bob@example.com"), one("10.0.0.1", "2001:db8::1")
		e.Membership = audit.Membership(one(string(audit.MembershipProven), string(audit.MembershipUnproven)))
		e.Target = &audit.Target{Type: one("project", "member"), ID: one("x", "y/z")}
		all = append(all, e)
	}
	r.write(all...)
	cursors := map[string]string{}
	found := 0
	for range queries {
		slug := fmt.Sprintf("org-%d", rng.IntN(organizations))
		values := url.Values{"limit": {fmt.Sprint(1 + rng.IntN(40))}}
		for name, some := range map[string][]string{
			"actor": {"u-1", "bob@example.com", "nobody"}, "project": {"ref-1", "ref-3"}, "action": {"a", "GET /v1/projects/{ref}/functions/{slug}"},
			"method": {"get", "POST"}, "target": {"project", "member/y/z", "x"}, "outcome": {"denied", "success"}, "status": {"4xx", "200-299", "500"},
			"ip": {"10.0.0.0/8", "2001:db8::/32"}, "text": {"UPDATE", "ann@", "y/z"}, "token_type": {"jwt", "unknown"},
		} {
			if rng.IntN(5) == 0 {
				values[name] = []string{one(some...), one(some...)}[:1+rng.IntN(2)]
				if name == "text" {
					values[name] = values[name][:1]
				}
			}
		}
		from := now().Add(-time.Duration(rng.IntN(2000)) * time.Second)
		values.Set("iso_timestamp_start", iso(from))
		if c := cursors[slug]; c != "" && rng.IntN(3) == 0 {
			values.Set("cursor", c)
		}
		in := &visit{Visitor: new(Visitor), Grant: &Grant{Slug: slug, Owners: []audit.Owner{audit.OwnerByID("id-" + slug), audit.OwnerBySlug(slug)}}}
		a, err := r.viewer.parseAsk(&url.URL{RawQuery: values.Encode()}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		q, err := a.query(in)
		if err != nil {
			t.Fatal(err)
		}
		if q.After, err = r.viewer.afterOf(&q, a); err != nil {
			t.Fatal(err)
		}
		q.To = time.Time{}
		var want []string
		for _, e := range all { // newest first
			if q.Matches(e) && len(want) < a.limit {
				want = append(want, e.ID)
			}
		}
		l, status := r.list("member:"+slug, auditPath(slug)+"?"+values.Encode())
		if status != http.StatusOK {
			t.Fatalf("%s: %d %s", values.Encode(), status, l.Message)
		}
		var got []string
		for _, e := range l.Result {
			if owner := e.Owner(); owner != audit.OwnerByID("id-"+slug) && owner != audit.OwnerBySlug(slug) {
				t.Fatalf("%s: entry %s of %q is shown to %s", values.Encode(), e.ID, owner, slug)
			}
			got = append(got, e.ID)
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", values.Encode(), diff)
		}
		found += len(got)
		if l.NextCursor != "" {
			cursors[slug] = l.NextCursor
			other := fmt.Sprintf("org-%d", (rng.IntN(organizations-1)+1+int(slug[4]-'0'))%organizations)
			if other != slug {
				if _, status := r.list("member:"+other, auditPath(other)+"?cursor="+l.NextCursor); status != 400 {
					t.Fatalf("a cursor of %s is taken from %s: %d", slug, other, status)
				}
			}
		}
	}
	if found < queries {
		t.Errorf("only %d entries were found", found)
	}
}

func TestAPersonReadsTheirOwnCalls(t *testing.T) {
	r := newRig(t)
	mine, anothers := entryOf("acme", time.Hour), entryOf("acme", time.Hour)
	mine.Actor.UserID = "user-of-member:other"
	mine.Membership = audit.MembershipUnproven
	r.write(mine, anothers)
	if text := body(t, r.get("member:other", "/platform/profile/audit")); strings.Contains(text, "acme\"") && strings.Contains(text, "organization") || strings.Contains(text, "team") {
		t.Errorf("somebody who is no member learns whose the project is: %s", text)
	}
	l, status := r.list("member:other", "/platform/profile/audit")
	if status != 200 || len(l.Result) != 1 || l.Result[0].ID != mine.ID || l.Result[0].Origin != nil || l.Result[0].Actor.PeerIP != "" {
		t.Errorf("%d %+v", status, l)
	}
}

func TestAnotherSiteCannotAskWithTheVisitorsSession(t *testing.T) {
	r := newRig(t)
	r.write(entryOf("acme", time.Hour))
	for headers, status := range map[[6]string]int{
		{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "script"}:    403,
		{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}:   403,
		{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}:       200,
		{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}: 403,
	} {
		if resp := r.get("member:acme", auditPath("acme"), headers[:]...); resp.StatusCode != status {
			t.Errorf("%v: %s, want %d", headers, resp.Status, status)
		}
	}
	// A link to a page may be followed from anywhere.
	if resp := r.get("member:acme", "/organizations/acme/audit", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"); resp.StatusCode != 200 {
		t.Errorf("a link: %s", resp.Status)
	}
}

func TestAnAnswerSaysUntilWhenItIsCompleteAndWhereItIsNot(t *testing.T) {
	r := newRig(t)
	beat := audit.Event(audit.EventHeartbeat, time.Now().Add(-time.Minute), map[string]any{"last_sequence": 7})
	beat.ID = idAt(time.Now().Add(-time.Minute))
	since, until := now().Add(-3*time.Hour).UTC(), now().Add(-2*time.Hour).UTC()
	gapEvent := audit.Event(audit.EventGap, time.Now().Add(-time.Hour), map[string]any{
		"reason": "passed", "count": 4711, "since": since.Format(time.RFC3339Nano), "until": until.Format(time.RFC3339Nano),
	})
	r.write(beat, gapEvent, entryOf("acme", time.Hour))
	resp := body(t, r.get("member:acme", auditPath("acme")))
	if strings.Contains(resp, "4711") {
		t.Error("a member learns how many calls of everybody were passed")
	}
	l, _ := r.list("member:acme", auditPath("acme"))
	want := time.UnixMicro(beat.Timestamp).Add(-settling).UTC().Truncate(time.Second)
	if l.CompleteUntil == nil || !l.CompleteUntil.Equal(want) {
		t.Errorf("complete until %v, want %v", l.CompleteUntil, want)
	}
	if diff := gocmp.Diff([]gap{{since, until, "passed"}}, l.Gaps); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(l.Result) != 1 {
		t.Errorf("%d entries: the events of the sidecar are everybody's", len(l.Result))
	}
	if l, _ = r.list("member:acme", auditPath("acme")+"?iso_timestamp_start="+iso(now().Add(-30*time.Minute))); len(l.Gaps) != 0 {
		t.Errorf("gaps of another time: %v", l.Gaps)
	}
}

// Nobody is to believe that there is nothing else because an answer has room for so many.
func TestGapsThatAreTooManyAreToldAsOne(t *testing.T) {
	r := newRig(t)
	var events []*audit.Entry
	for n := range maxGaps + 20 {
		at := now().Add(-time.Duration(n+1) * time.Minute)
		e := audit.Event(audit.EventGap, at, map[string]any{"reason": "passed", "since": at.Add(-time.Second).UTC().Format(time.RFC3339Nano)})
		e.ID = idAt(at)
		events = append(events, e)
	}
	slices.Reverse(events)
	r.write(events...)
	start := now().Add(-24 * time.Hour).Truncate(time.Second)
	l, _ := r.list("member:acme", auditPath("acme")+"?iso_timestamp_start="+iso(start))
	if len(l.Gaps) != maxGaps {
		t.Fatalf("%d gaps, want %d", len(l.Gaps), maxGaps)
	}
	last := l.Gaps[maxGaps-1]
	if want := time.UnixMicro(events[len(events)-maxGaps].Timestamp); last.Why != whyMore || !last.From.Equal(start) || !last.To.Equal(want) {
		t.Errorf("the last gap is %+v, want one from %s to %s for all others", last, start, want)
	}
}
