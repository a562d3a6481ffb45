package caddymodule

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stamps"
)

// organizationsAPI says whose projects are, and which plan organizations have.
type organizationsAPI struct {
	*httptest.Server
	mu    sync.Mutex
	plan  string
	down  bool
	asked []string
}

func newOrganizationsAPI(t *testing.T) *organizationsAPI {
	t.Helper()
	api := &organizationsAPI{plan: "team"}
	api.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		api.mu.Lock()
		defer api.mu.Unlock()
		api.asked = append(api.asked, r.URL.Path)
		switch {
		case api.down:
			http.Error(w, "down", http.StatusInternalServerError)
		case r.Header.Get("Authorization") != "Bearer lookup-token":
			http.Error(w, "who are you", http.StatusUnauthorized)
		case r.URL.Path == "/v1/projects/"+acmeProject:
			fmt.Fprint(w, `{"organization_id":"org-1","organization_slug":"acme"}`)
		case r.URL.Path == "/v1/organizations/acme":
			fmt.Fprintf(w, `{"id":"org-1","slug":"acme","plan":%q}`, api.plan)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(api.Close)
	return api
}

const (
	acmeProject = "abcdefghijklmnopqrst"
	patOfAcme   = "sbp_0123456789abcdef0123456789abcdef01234567"
)

// keptRig has terms, and looks often whether there is something to do.
func keptRig(t *testing.T, lookups string) *rig {
	t.Helper()
	t.Setenv("AUDIT_LOOKUP_TOKEN", "lookup-token")
	pruneEvery, lookEvery = 50*time.Millisecond, 20*time.Millisecond
	t.Cleanup(func() { pruneEvery, lookEvery = 0, 0 })
	r := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer sbp_") {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{}`)
	})
	r.load(strings.Replace(rigCaddyfile, "store sqlite %STORE%", `store sqlite %STORE%
		keep {
			default 400d
			unattributed 30d
			class team 2y plan team
			class removals 7y action "DELETE *"
		}
		readable {
			team 62d
			free none
		}
		organizations {
			lookup supabase `+lookups+`
			token {env.AUDIT_LOOKUP_TOKEN}
		}`, 1), proxy+"\nhandle /metrics {\nmetrics\n}")
	return r
}

// stored waits until the entry of a call has a stamp that is settled.
func (r *rig) stored(id string) *audit.Entry {
	r.t.Helper()
	r.drained()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		for _, e := range r.exported() {
			if e.ID == id && e.Retention != nil && e.OrganizationSlug != "" {
				return e
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	r.t.Fatalf("entry %s has no stamp: %+v", id, r.exported())
	return nil
}

func TestEntriesAreStampedWithWhoseTheyAreAndHowLongTheyAreKept(t *testing.T) {
	api := newOrganizationsAPI(t)
	r := keptRig(t, api.URL)
	answer, _ := r.send("GET", "/v1/projects/"+acmeProject, map[string]string{"Authorization": "Bearer " + patOfAcme}, "")
	e := r.stored(answer.Header.Get(auditIDHeader))
	arrival := time.UnixMicro(e.Timestamp).UTC()
	y, m, d := arrival.AddDate(2, 0, 0).Date()
	until := time.Date(y, m, d+2, 0, 0, 0, 0, time.UTC)
	if e.OrganizationID != "org-1" || e.OrganizationSlug != "acme" || e.Membership != audit.MembershipProven ||
		e.Retention.Class != "team" || e.Retention.Plan != "team" || e.Retention.KeepUntil != until.UnixMicro() {
		t.Errorf("a member's call: %q, %q, %q, %+v", e.OrganizationID, e.OrganizationSlug, e.Membership, e.Retention)
	}

	// What nobody verified is nobody's, and buys no years.
	answer, _ = r.send("DELETE", "/v1/projects/"+acmeProject, map[string]string{"Authorization": "Bearer made-up"}, "")
	scan := r.stored(answer.Header.Get(auditIDHeader))
	if scan.Retention.Class != audit.ClassUnattributed || scan.Membership != audit.MembershipUnproven {
		t.Errorf("a stranger's call: %q, %+v", scan.Membership, scan.Retention)
	}
	r.send("GET", "/v1/projects/x%2f..%2fadmin", map[string]string{"Authorization": "Bearer " + patOfAcme}, "")
	r.send("GET", "/v1/projects/zzzzzzzzzzzzzzzzzzzz", map[string]string{"Authorization": "Bearer made-up"}, "")
	r.drained()
	api.mu.Lock()
	slices.Sort(api.asked)
	if want := []string{"/v1/organizations/acme", "/v1/projects/" + acmeProject}; !slices.Equal(api.asked, want) {
		t.Errorf("asked %q, want %q", api.asked, want)
	}
	api.mu.Unlock()

	text, err := r.run("retention", "explain", e.ID)
	for _, want := range []string{"acme org-1 (membership proven)", "class         team, which keeps 2y", "plan          team", until.Format("2006-01-02 15:04 MST"), "readable      by its organization until"} {
		if err != nil || !strings.Contains(text, want) {
			t.Errorf("explain: %v, no %q in\n%s", err, want, text)
		}
	}
	text, err = r.run("retention", "preview", "--in", "40d", "--json")
	var p operator.Preview
	if err != nil || json.Unmarshal([]byte(text), &p) != nil {
		t.Fatalf("preview: %v\n%s", err, text)
	}
	for _, c := range p.Classes {
		if want := map[string]int64{audit.ClassUnattributed: c.Entries}[c.Class]; c.Expiring != want || c.Class == audit.ClassUnattributed && c.Expiring == 0 {
			t.Errorf("class %s: %d of %d expire in 40 days", c.Class, c.Expiring, c.Entries)
		}
	}
	_, metrics := r.send("GET", "/metrics", nil, "")
	for _, want := range []string{
		`caddy_audit_retention_entries{class="team",store="sqlite"} 1`, `caddy_audit_retention_failing{store="sqlite"} 0`,
		`caddy_audit_organization_lookups_total{kind="project",result="found"} `,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
}

func TestWhilePlansCannotBeAskedForEntriesArePendingAndDoNotExpire(t *testing.T) {
	api := newOrganizationsAPI(t)
	api.down = true
	r := keptRig(t, api.URL)
	answer, _ := r.send("POST", "/v1/projects/"+acmeProject+"/pause", map[string]string{"Authorization": "Bearer " + patOfAcme}, "")
	r.drained()
	pending := func() (n int64) {
		if k := r.storeStatus("sqlite").Retention; k != nil {
			for _, c := range k.Classes {
				n += c.Pending
			}
		}
		return n
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if pending() > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if pending() != 1 {
		t.Fatalf("%d entries are pending, want 1", pending())
	}
	api.mu.Lock()
	api.down = false
	api.mu.Unlock()
	if e := r.stored(answer.Header.Get(auditIDHeader)); e.Retention.Class != "team" {
		t.Errorf("after the answer: %+v", e.Retention)
	}
}

func TestAHoldIsSetShownAndReleased(t *testing.T) {
	api := newOrganizationsAPI(t)
	r := keptRig(t, api.URL)
	answer, _ := r.send("GET", "/v1/projects/"+acmeProject, map[string]string{"Authorization": "Bearer " + patOfAcme}, "")
	id := answer.Header.Get(auditIDHeader)
	r.stored(id)
	if text, err := r.run("retention", "hold", "set", "--organization", "acme"); err == nil || !strings.Contains(text, "give a reason") {
		t.Errorf("without a reason: %v\n%s", err, text)
	}
	if text, err := r.run("retention", "hold", "set", "--reason", "all of it"); err == nil || !strings.Contains(text, "say what is held") {
		t.Errorf("of everything: %v\n%s", err, text)
	}
	text, err := r.run("retention", "hold", "set", "--id", "case-1", "--organization", "acme", "--reason", "case 4711")
	if err != nil || !strings.Contains(text, "hold case-1 is set in sqlite") {
		t.Fatalf("%v\n%s", err, text)
	}
	if e := r.stored(id); !e.Retention.Hold {
		t.Errorf("the entry does not say that it is held: %+v", e.Retention)
	}
	for _, args := range [][]string{{"hold", "list"}, {"preview"}, {"explain", id}} {
		if text, err := r.run(append([]string{"retention"}, args...)...); err != nil || !strings.Contains(text, "case-1") || !strings.Contains(text, "case 4711") {
			t.Errorf("%q: %v\n%s", args, err, text)
		}
	}
	if text, err := r.run("retention", "hold", "release", "case-1", "--reason", "closed"); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if text, err := r.run("retention", "hold", "list"); err != nil || !strings.Contains(text, "nothing is held") {
		t.Errorf("%v\n%s", err, text)
	}
	var holds []map[string]any
	for _, e := range r.events() {
		if e.Action.Code == audit.EventHold {
			holds = append(holds, e.Action.Metadata)
		}
	}
	if len(holds) != 2 || holds[0]["do"] != "set" || holds[0]["organization"] != "acme" || holds[1]["do"] != "release" || holds[1]["reason"] != "closed" {
		t.Errorf("events: %v", holds)
	}
}

func TestAnEntryThatWasDeletedByHandIsLostAndOneThatExpiredIsNot(t *testing.T) {
	api := newOrganizationsAPI(t)
	r := keptRig(t, api.URL)
	answer, _ := r.send("GET", "/v1/projects/"+acmeProject, map[string]string{"Authorization": "Bearer " + patOfAcme}, "")
	id := answer.Header.Get(auditIDHeader)
	sequence := r.stored(id).Origin.Sequence
	scan, _ := r.send("GET", "/v1/projects/"+acmeProject, map[string]string{"Authorization": "Bearer made-up"}, "")
	r.stored(scan.Header.Get(auditIDHeader))
	r.drained()
	if text, err := r.run("verify"); err != nil || !strings.Contains(text, "nothing is lost") {
		t.Fatalf("before: %v\n%s", err, text)
	}

	// One expires: what time it is, is a matter of the terms.
	db, err := sql.Open("sqlite", "file:"+filepath.Join(r.dir, "audit", "audit.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.Exec(query, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`DELETE FROM entry WHERE id = ?`, id)
	text, err := r.run("verify")
	if want := fmt.Sprintf("LOST     %d to %d", sequence, sequence); err == nil || !strings.Contains(text, want) {
		t.Errorf("%v, no %q in\n%s", err, want, text)
	}
	if text, err := r.run("retention", "explain", id); err != nil || !strings.Contains(text, "it never came, or it is lost") {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestALookupThatComesBackToUsIsRefusedAndIsNoCall(t *testing.T) {
	r := keptRig(t, "http://127.0.0.1:1") // is replaced
	r.load(strings.Replace(rigCaddyfile, "store sqlite %STORE%", `store sqlite %STORE%
		organizations {
			lookup supabase http://127.0.0.1:%PORT%
		}`, 1), proxy)
	before := r.status().Calls
	r.send("GET", "/v1/projects/"+acmeProject, map[string]string{"Authorization": "Bearer " + patOfAcme}, "")
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if r.status().Calls.Excluded > before.Excluded {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond) // in which a loop would run
	after := r.status().Calls
	if n := after.Recorded - before.Recorded; n != 1 {
		t.Errorf("%d calls are recorded, want the one that was made", n)
	}
	if n := after.Excluded - before.Excluded; n != 1 {
		t.Errorf("%d lookups came, want 1", n)
	}
	if at, yes := running.current().lookupsOwnSite(); !yes || !strings.Contains(at, "127.0.0.1") {
		t.Error("the configuration is not warned of")
	}
}

func TestATokenThatGoesOverTheNetworkInClearIsWarnedOf(t *testing.T) {
	t.Setenv("AUDIT_LOOKUP_TOKEN", "lookup-token")
	for address, warned := range map[string]bool{
		"http://api.example.com": true, "https://api.example.com": false, "http://127.0.0.1:9000": false, "http://localhost:9000": false, "http://[::1]:9000": false,
	} {
		o := &stamps.Organizations{Supabase: address, Token: "{env.AUDIT_LOOKUP_TOKEN}"}
		if o.AsksInClear() != warned {
			t.Errorf("%s: warned %t", address, !warned)
		}
	}
	own := &stamps.Organizations{Project: &stamps.OrganizationLookup{URL: "http://api.example.com/p/{ref}", ID: "id"}, Token: "{env.AUDIT_LOOKUP_TOKEN}"}
	if !own.AsksInClear() {
		t.Error("not warned of a lookup of one's own")
	}
}

func TestWithoutTermsNothingIsStampedForDeletion(t *testing.T) {
	r := start(t, proxy, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{}`) })
	r.send("GET", "/v1/projects/"+acmeProject, nil, "")
	r.drained()
	if text, err := r.run("retention", "preview"); err != nil || !strings.Contains(text, "(not stamped yet)") {
		t.Errorf("%v\n%s", err, text)
	}
	for _, e := range r.exported() {
		if e.Retention != nil {
			t.Errorf("got %+v", e.Retention)
		}
	}
}
