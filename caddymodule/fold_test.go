package caddymodule

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/identity"
)

// highest are the entries of calls, each in its highest revision, in the order
// of their first.
func (r *rig) highest() []*audit.Entry {
	r.t.Helper()
	at := map[string]int{}
	var list []*audit.Entry
	for _, e := range r.buffered() {
		if i, there := at[e.ID]; !there {
			at[e.ID] = len(list)
			list = append(list, e)
		} else if e.Revision > list[i].Revision {
			list[i] = e
		}
	}
	return list
}

func TestAFloodOfRefusedReadsBecomesOneEntryWithItsCount(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		switch {
		case req.URL.Path == "/missing":
			w.WriteHeader(404)
		case req.Header.Get("Authorization") != "Bearer "+robot:
			w.WriteHeader(401)
		}
	})
	r.load(withRules("fold 5 1h"), proxy)
	var calls sync.WaitGroup
	var mu sync.Mutex
	ids := map[string]int{}
	for range 8 {
		calls.Go(func() {
			for range 10 {
				resp, _ := r.send("GET", project, bearer("guess"), "")
				mu.Lock()
				ids[resp.Header.Get("Audit-Id")]++
				mu.Unlock()
				r.send("GET", "/missing", nil, "")
			}
		})
	}
	calls.Wait()
	// Changing calls, other statuses and known callers are no flood.
	r.send("POST", project, bearer("guess"), "")
	r.send("GET", project, bearer(robot), "")
	r.send("GET", "/missing", bearer(robot), "")
	if n := len(r.highest()); n != 5+2+3 {
		t.Errorf("%d entries", n)
	}
	before := r.status()
	if !before.Conserved || before.Calls.Folded != 160-7 || before.Calls.Recorded != 7+3 || before.Calls.Seen != 163 {
		t.Errorf("%+v", before.Calls)
	}
	f := running.current().handlers[0].folds
	for from, n := range maps.Clone(f.networks) {
		f.expire(from, n) // as its timer does
	}
	byStatus := map[int]int{}
	for _, e := range r.highest() {
		if e.Folded == nil {
			continue
		}
		byStatus[e.Action.Status] += e.Count
		if e.Folded.Network != "127.0.0.0/24" || e.Folded.Until <= e.Timestamp || e.Revision != 2 {
			t.Errorf("revision %d: %+v", e.Revision, e.Folded)
		}
		if e.Action.Status == 401 && ids[e.ID] != e.Count {
			t.Errorf("%d answers have the entry's id, and its count is %d", ids[e.ID], e.Count)
		}
	}
	if single := 5; byStatus[401]+byStatus[404]+single != 160 {
		t.Errorf("counted %v and %d one by one", byStatus, single)
	}
	// The next interval begins anew.
	r.send("GET", "/missing", nil, "")
	list := r.highest()
	if e := list[len(list)-1]; e.Folded != nil || e.Count != 0 {
		t.Errorf("%+v", e)
	}
	if s := r.drained(); !s.Conserved {
		t.Errorf("%+v", s)
	}
}

func TestAStopRecordsWhatWasCounted(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) })
	caddyfile := withRules("fold 2 1h")
	r.load(caddyfile, proxy)
	for range 10 {
		r.send("GET", "/missing", nil, "")
	}
	r.load(rigCaddyfile, proxy) // a reload ends the interval
	count := 0
	for _, e := range r.highest() {
		count += max(1, e.Count)
	}
	if s := r.status(); count != 10 || s.Calls.Folded != 7 || !s.Conserved {
		t.Errorf("%d calls are accounted for, %+v", count, s.Calls)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
}

func TestCallersAreCountedByNetwork(t *testing.T) {
	for ip, want := range map[string]string{
		"203.0.113.9": "203.0.113.0/24", "::ffff:203.0.113.9": "203.0.113.0/24", "2001:db8:1:2ff::1": "2001:db8:1:200::/56",
		"fe80::1%eth0": "fe80::/56", "": "others", "x": "others",
	} {
		if got := networkName(networkOf(ip)); got != want {
			t.Errorf("%q: %s, want %s", ip, got, want)
		}
	}
	f := newFolder(Fold{Calls: 1})
	for n := range 2 * maxNetworks {
		c := &call{entry: &audit.Entry{Policy: audit.Policy{Durability: audit.DurabilityAnswer}, Actor: audit.Actor{TokenType: audit.TokenNone, Verification: audit.VerificationNone, IP: fmt.Sprintf("10.%d.%d.1", n>>8, n&255)}}, known: identity.NewKnown()}
		f.place(c, audit.Answer{At: time.Now(), Status: 404, Source: audit.StatusWritten})
	}
	if n := len(f.networks); n != maxNetworks+1 || f.networks[netip.Prefix{}] == nil {
		t.Errorf("%d networks are counted", n)
	}
}

func TestSensitiveReadsStayRecordedWhereReadsAreTurnedOff(t *testing.T) {
	catalog, err := audit.NewCatalog([]audit.Operation{
		{Method: "GET", Template: "/keys", Sensitive: true}, {Method: "GET", Template: "/things"},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, ok)
	r.load(withRules("@reads method GET HEAD\n\t\trule @reads none"), proxy)
	running.current().handlers[0].platform = &audit.Platform{Name: "test", Catalog: catalog}
	for _, path := range []string{"/keys", "/things", "/keys/", "/%6beys", "/nowhere"} {
		r.send("GET", path, nil, "")
	}
	r.send("HEAD", "/keys", nil, "")
	var got []string
	for _, e := range r.highest() {
		got = append(got, e.Policy.Rule+" "+e.Action.Method+" "+e.Action.Path)
	}
	if text := strings.Join(got, ", "); text != "sensitive GET /keys, sensitive GET /keys/, sensitive GET /%6beys, sensitive HEAD /keys" {
		t.Errorf("recorded: %s", text)
	}
	if s := r.status(); s.Calls.Excluded != 2 || !s.Conserved {
		t.Errorf("%+v", s.Calls)
	}
}

// An answer whose target is born in it is held until its entry names the target,
// and leaves as the API wrote it.
func TestATargetBornInTheAnswerIsInTheFirstRevision(t *testing.T) {
	catalog, err := audit.NewCatalog([]audit.Operation{
		{Method: "POST", Template: "/things", Target: audit.TargetRule{Type: "project"}, Born: "data.ref"},
	})
	if err != nil {
		t.Fatal(err)
	}
	const body = `{"data":{"ref":"abcdefghijklmnopqrst"}}`
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		id     string
		status int
		body   string
	}{
		{"whole", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			w.WriteHeader(201)
			_, _ = w.Write([]byte(body[:7]))
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write([]byte(body[7:]))
		}, "abcdefghijklmnopqrst", 201, body},
		{"of unknown length", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write([]byte(body))
		}, "", 200, body},
		{"no JSON by its type", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte(body))
		}, "", 200, body},
		{"no JSON", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte("<html>"))
		}, "", 200, "<html>"},
		{"a failure", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(422)
			_, _ = w.Write([]byte(body))
		}, "", 422, body},
		{"too long", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			long := body[:len(body)-1] + strings.Repeat(" ", maxHeld) + "}"
			w.Header().Set("Content-Length", fmt.Sprint(len(long)))
			_, _ = w.Write([]byte(long))
		}, "", 200, ""},
		{"a number", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			_, _ = w.Write([]byte(`{"data":{"ref":12345678901234567890}}`))
		}, "12345678901234567890", 200, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.answer)
			r.load(rigCaddyfile, proxy)
			running.current().handlers[0].platform = &audit.Platform{Name: "test", Catalog: catalog}
			resp, got := r.send("POST", "/things", nil, "{}")
			if resp.StatusCode != c.status || c.body != "" && got != c.body {
				t.Errorf("%d %q", resp.StatusCode, got)
			}
			list := r.highest()
			if len(list) != 1 || list[0].Target == nil || list[0].Target.ID != c.id || list[0].ProjectRef != c.id {
				t.Fatalf("%+v %+v", list, list[0].Target)
			}
			if c.id != "" && list[0].Revision != 1 {
				t.Errorf("revision %d", list[0].Revision)
			}
		})
	}
}

func TestAHeldAnswerThatBreaksOffIsCutAsItCame(t *testing.T) {
	catalog, err := audit.NewCatalog([]audit.Operation{{Method: "POST", Template: "/things", Target: audit.TargetRule{Type: "thing"}, Born: "id"}})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte(`{"id":"x`))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	r.load(rigCaddyfile, proxy)
	running.current().handlers[0].platform = &audit.Platform{Name: "test", Catalog: catalog}
	// As without us, Caddy may cut the connection before it has sent anything.
	resp, err := oneCall.RoundTrip(r.request("POST", "/things", nil, ""))
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
	}
	if err == nil {
		t.Error("half an answer was taken for a whole one")
	}
	r.calls(2)
	if e := r.highest()[0]; e.Target.ID != "" || e.Action.Metadata["aborted"] != true || e.ResponseBytes == nil || *e.ResponseBytes != 8 {
		t.Errorf("%+v", e)
	}
}

// An error route may answer otherwise than the error says: what it served is
// recorded one by one.
func TestAnErrorIsNotFoldedBeforeItsRouteHasAnswered(t *testing.T) {
	r := newRig(t, ok)
	r.load(withRules("fold 1 1h"), "error 404\n\thandle_errors {\n\t\taudit_log\n\t\treverse_proxy %API%\n\t}")
	for range 4 {
		if resp, body := r.send("GET", project, nil, ""); resp.StatusCode != 200 || body != "ok" {
			t.Fatal(resp.StatusCode, body)
		}
	}
	if list := r.highest(); len(list) != 4 || list[3].Action.Status != 200 || list[3].Count != 0 {
		t.Errorf("%d entries, %+v", len(list), list[len(list)-1])
	}
}

func TestOnlyWhatIsWaitedForStandsForOthers(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) })
	r.load(withRules("fold 1 1h\n\t\trule /relaxed metadata relaxed\n\t\trule /strict metadata strict"), proxy)
	for _, path := range []string{"/relaxed", "/strict"} {
		for range 4 {
			r.send("GET", path, nil, "")
		}
	}
	r.calls(8)
	if s := r.status(); s.Calls.Folded != 0 || !s.Conserved {
		t.Errorf("%+v", s.Calls)
	}
}

func TestACallerThatTheAPIServedIsNoFlood(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/me" {
			w.WriteHeader(404)
		}
	})
	r.load(withRules("platform generic\n\t\tfold 1 1h"), proxy)
	r.send("GET", "/me", bearer(robot), "")
	for _, token := range []string{"a", "b", "c", "c", robot, robot} {
		r.send("GET", "/invoices/1", bearer("stolen-"+token), "")
		r.send("GET", "/invoices/1", bearer(robot), "")
	}
	list := r.highest()
	if len(list) != 1+6+2 {
		t.Errorf("%d entries", len(list))
	}
	r.load(rigCaddyfile, proxy) // which ends the interval
	for _, e := range r.highest() {
		if e.Folded != nil && (e.Count != 5 || len(e.Actor.OtherTokenHashes) != 2) {
			t.Errorf("count %d, further credentials %v", e.Count, e.Actor.OtherTokenHashes)
		}
	}
}

func TestACallThatNamesAnotherMethodIsNotExcludedByItsOwn(t *testing.T) {
	r := newRig(t, ok)
	r.load(withRules("@reads method GET HEAD\n\t\trule @reads none"), proxy)
	r.send("GET", project, map[string]string{"X-HTTP-Method-Override": "DELETE"}, "")
	r.send("GET", project, nil, "")
	list := r.highest()
	if len(list) != 1 || list[0].Policy.Rule != "method_override" || list[0].Policy.Durability != audit.DurabilityStrict || list[0].Action.Metadata["method_override"] != "DELETE" {
		t.Errorf("%+v", list)
	}
	r.load(withRules("rule * none"), proxy)
	r.send("GET", project, map[string]string{"X-HTTP-Method-Override": "DELETE"}, "")
	if s := r.status(); s.Calls.Excluded != 2 {
		t.Errorf("what is excluded whatever it is: %+v", s.Calls)
	}
}

func TestAClientDoesNotChooseWhetherATargetIsRead(t *testing.T) {
	catalog, err := audit.NewCatalog([]audit.Operation{{Method: "POST", Template: "/things", Target: audit.TargetRule{Type: "project"}, Born: "ref"}})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(req.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
		}
		_, _ = io.WriteString(w, `{"ref":"abcdefghijklmnopqrst"}`)
	})
	r.load(rigCaddyfile, proxy)
	running.current().handlers[0].platform = &audit.Platform{Name: "test", Catalog: catalog}
	r.send("POST", "/things", map[string]string{"Accept-Encoding": "gzip"}, "{}")
	if e := r.highest()[0]; e.Target.ID != "abcdefghijklmnopqrst" {
		t.Errorf("%+v", e)
	}
}
