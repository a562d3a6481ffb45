package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stores"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func init() {
	caddy.RegisterModule(new(pickyStore))
}

// pickyStore refuses what a test says. It stands for a receiver; real ones are tested
// with their stores and by bench/outage.
type pickyStore struct{}

var picky struct {
	sync.Mutex
	refuses string // documents that contain it; "*" is all of them
	down    bool
	stored  []*audit.Entry
}

// setPicky changes what the store does, until the test ends.
func setPicky(t *testing.T, refuses string, down bool) {
	t.Helper()
	picky.Lock()
	defer picky.Unlock()
	picky.refuses, picky.down = refuses, down
	t.Cleanup(func() {
		picky.Lock()
		defer picky.Unlock()
		picky.refuses, picky.down, picky.stored = "", false, nil
	})
}

func pickyHas(id string) bool {
	picky.Lock()
	defer picky.Unlock()
	return slices.ContainsFunc(picky.stored, func(e *audit.Entry) bool { return e.ID == id })
}

func (*pickyStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "audit_log.stores.picky", New: func() caddy.Module { return new(pickyStore) }}
}

func (*pickyStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return nil
}

func (*pickyStore) Describe() forwarder.Description {
	return forwarder.Description{Kind: "picky", Location: "memory", Delivery: forwarder.DeliveryAtLeastOnce}
}

func (s *pickyStore) Open(context.Context, *slog.Logger) (forwarder.Store, error) { return s, nil }

func (*pickyStore) Close() error { return nil }

func (*pickyStore) Write(_ context.Context, batch []forwarder.Record) error {
	picky.Lock()
	defer picky.Unlock()
	if picky.down {
		return errors.New("connection refused")
	}
	for _, r := range batch {
		if picky.refuses == "*" || picky.refuses != "" && bytes.Contains(r.JSON, []byte(picky.refuses)) {
			return &forwarder.RefusedError{Err: errors.New("422 unprocessable")}
		}
	}
	for _, r := range batch {
		picky.stored = append(picky.stored, r.Entry)
	}
	return nil
}

// withStores is the rig's Caddyfile with further stores.
func withStores(stores string) string {
	return strings.Replace(rigCaddyfile, "store sqlite %STORE%", "store sqlite %STORE%\n"+stores, 1)
}

// run runs a command against the rig's server.

func (r *rig) storeStatus(name string) operator.StatusStore {
	r.t.Helper()
	s := r.status()
	if !s.Conserved {
		r.t.Fatalf("not everything is accounted for: %+v", s)
	}
	i := slices.IndexFunc(s.Stores, func(st operator.StatusStore) bool { return st.Name == name })
	if i < 0 {
		r.t.Fatalf("there is no store %q: %+v", name, s.Stores)
	}
	return s.Stores[i]
}

// gapsOf are the gaps of a reason that are on record.
func (r *rig) gapsOf(reason string) (list []map[string]any) {
	for _, e := range r.events() {
		if e.Action.Code == audit.EventGap && e.Action.Metadata["reason"] == reason {
			list = append(list, e.Action.Metadata)
		}
	}
	return list
}

func TestWhatAStoreRefusesIsQuarantinedShownRetriedAndDropped(t *testing.T) {
	r := newRig(t, ok)
	setPicky(t, "poison", false)
	r.load(withStores("store picky"), proxy)
	for _, name := range []string{"a", "poison-1", "b", "poison-2", "c"} {
		r.send("PATCH", project+"/functions/"+name, nil, "{}")
	}
	await(t, "quarantine", func() bool {
		r.send("GET", project, nil, "") // as time goes by: something to compare with
		return r.storeStatus("picky").Quarantined == 2 && r.storeStatus("picky").Pending == 0
	})
	var poisoned []*audit.Entry
	for _, e := range r.buffered() {
		bad := strings.Contains(e.Action.Path, "poison")
		if bad {
			poisoned = append(poisoned, e)
		}
		if pickyHas(e.ID) == bad {
			t.Errorf("%s: refused %t, stored %t", e.Action.Path, bad, !bad)
		}
	}
	out, err := r.run("quarantine", "list", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var listed []operator.QuarantinedLine
	for line := range strings.Lines(out) {
		var l operator.QuarantinedLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		e, err := audit.Decode(l.Entry)
		if err != nil || l.Store != "picky" || l.Reason != "422 unprocessable" || e.Origin.Sequence != l.Sequence || e.ID != poisoned[len(listed)].ID {
			t.Errorf("%+v, %v", l, err)
		}
		listed = append(listed, l)
	}
	if len(listed) != 2 {
		t.Fatalf("listed are %d: %s", len(listed), out)
	}
	if out, err := r.run("quarantine", "list"); err != nil || !strings.Contains(out, "422 unprocessable") || !strings.Contains(out, poisoned[0].ID) {
		t.Errorf("%v: %s", err, out)
	}
	first, second := fmt.Sprint(listed[0].Sequence), fmt.Sprint(listed[1].Sequence)
	if out, err := r.run("quarantine", "show", "picky", first); err != nil || !strings.Contains(out, "poison-1") {
		t.Errorf("%v: %s", err, out)
	}
	told := 0
	for _, e := range r.events() {
		if e.Action.Code == audit.EventQuarantined && e.Action.Metadata["store"] == "picky" && e.Action.Metadata["reason"] == "422 unprocessable" {
			told++
		}
	}
	if told != 2 {
		t.Errorf("%d entries tell of it, want 2", told)
	}

	if out, err := r.run("quarantine", "retry", "picky", first); err == nil || !strings.Contains(out, "422") || r.storeStatus("picky").Quarantined != 2 {
		t.Errorf("while it refuses: %v: %s", err, out)
	}
	setPicky(t, "poison-2", false)
	if out, err := r.run("quarantine", "retry", "picky", "--all"); err == nil || !strings.Contains(out, "1 delivered, 0 dropped, 1 kept") {
		t.Errorf("%v: %s", err, out)
	}
	if !pickyHas(poisoned[0].ID) || r.storeStatus("picky").Quarantined != 1 {
		t.Errorf("it was not delivered: %+v", r.storeStatus("picky"))
	}
	if out, err := r.run("quarantine", "drop", "picky", second); err == nil || !strings.Contains(err.Error(), "reason") {
		t.Errorf("without a reason: %v: %s", err, out)
	}
	if out, err := r.run("quarantine", "drop", "picky", second, "--reason", "ticket 4711"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	st := r.storeStatus("picky")
	if gaps := r.gapsOf("dropped"); len(gaps) != 1 || gaps[0]["cause"] != "ticket 4711" || fmt.Sprint(gaps[0]["first"]) != second || st.Quarantined != 0 || st.Skipped != 1 {
		t.Errorf("gaps %+v; %+v", gaps, st)
	}
	if out, err := r.run("quarantine", "list"); err != nil || !strings.Contains(out, "nothing is in quarantine") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := r.run("quarantine", "drop", "picky", second, "--reason", "again"); err == nil || !strings.Contains(out, "not in quarantine") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestADetachableStoreThatIsDeadIsDetachedAndNoCallSeesIt(t *testing.T) {
	r := newRig(t, ok)
	setPicky(t, "", true)
	r.load(withStores("store picky {\n name dead\n detachable 20%\n}"), proxy)
	name := strings.Repeat("x", 400)
	for i := range 3000 {
		if resp, body := r.send("PATCH", fmt.Sprintf("%s/functions/%s-%d", project, name, i), nil, "{}"); resp.StatusCode != 200 {
			t.Fatalf("call %d sees it: %d %s", i, resp.StatusCode, body)
		}
		if i%100 == 0 && len(r.gapsOf("detached")) > 1 {
			break
		}
	}
	setPicky(t, "", false)
	await(t, "the store's recovery", func() bool { // after its pause, up to half a minute
		st := r.storeStatus("dead")
		return st.Pending == 0 && st.Delivered > 0
	})
	// What it has, and what the gaps tell of that it has, is everything, and nothing twice.
	picky.Lock()
	stored := slices.Clone(picky.stored)
	picky.Unlock()
	instance := r.status().Instance
	stored = slices.DeleteFunc(stored, func(e *audit.Entry) bool { return e.Origin.Instance != instance }) // of a drain of another test
	got, missing := map[uint64]int{}, map[uint64]bool{}
	for _, e := range stored {
		got[e.Origin.Sequence]++
		if e.Action.Code != audit.EventGap || e.Action.Metadata["store"] != "dead" {
			continue
		}
		for n := uint64(e.Action.Metadata["missing_since"].(float64)); n <= uint64(e.Action.Metadata["last"].(float64)); n++ {
			missing[n] = true
		}
	}
	st := r.storeStatus("dead")
	if st.Skipped == 0 || uint64(len(missing)) != st.Skipped || st.MaxPendingBytes == 0 {
		t.Fatalf("the gaps tell of %d: %+v", len(missing), st)
	}
	for n := uint64(1); n <= st.Position.Position; n++ {
		if missing[n] == (got[n] > 0) || got[n] > 1 {
			t.Fatalf("entry %d is stored %d times; in a gap %t", n, got[n], missing[n])
		}
	}
	if s := r.storeStatus("sqlite"); s.Skipped != 0 || s.FailingSince != nil {
		t.Errorf("the other store: %+v", s)
	}
}

func TestStoresGetWhatTheirOptionsSay(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/denied") {
			w.WriteHeader(403)
		}
	})
	r.load(withStores(`store file %DIR%/all.ndjson {
			name all
		}
		store file %DIR%/denied.ndjson {
			name denied
			only outcome denied
			except action audit.*
			format ocsf
			batch 10 100ms
		}`), proxy)
	for _, name := range []string{"one", "denied", "two"} {
		r.send("PATCH", project+"/functions/"+name, nil, "{}")
	}
	await(t, "delivery", func() bool { return r.storeStatus("all").Pending == 0 && r.storeStatus("denied").Pending == 0 })
	lines := func(name string) []string {
		b, err := os.ReadFile(filepath.Join(r.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return slices.Collect(strings.Lines(string(b)))
	}
	if got := lines("all.ndjson"); len(got) != int(r.storeStatus("all").Delivered) || len(got) < 4 {
		t.Errorf("%d lines", len(got))
	}
	got := lines("denied.ndjson")
	if len(got) != 1 || !strings.Contains(got[0], `"class_uid":6003`) || !strings.Contains(got[0], "/functions/denied") {
		t.Errorf("got %q", got)
	}
	if st := r.storeStatus("denied"); st.Filtered == 0 || st.Delivered != 1 {
		t.Errorf("%+v", st)
	}
}

func TestAStoreWithAnotherDestinationWaitsUntilItIsToldWhereToBegin(t *testing.T) {
	r := start(t, proxy, ok)
	r.send("PATCH", project+"/functions/before", nil, "{}")
	r.drained()
	moved := strings.Replace(rigCaddyfile, "%STORE%", "%DIR%/audit/moved.db", 1)
	r.load(moved, proxy)
	r.send("PATCH", project+"/functions/between", nil, "{}")
	await(t, "a reason", func() bool { return strings.Contains(r.storeStatus("sqlite").LastError, "from oldest") })
	if st := r.storeStatus("sqlite"); st.Pending == 0 {
		t.Errorf("nothing waits: %+v", st)
	}
	r.load(strings.Replace(moved, "moved.db", "moved.db {\n from oldest\n }", 1), proxy)
	r.send("PATCH", project+"/functions/after", nil, "{}")
	r.drained()
	var paths []string
	for _, e := range r.exported() {
		paths = append(paths, filepath.Base(e.Action.Path))
	}
	if !slices.Equal(paths, []string{"before", "between", "after"}) {
		t.Errorf("it has %v", paths)
	}
}

func TestARemovedStoreIsKeptAndComesBack(t *testing.T) {
	r := newRig(t, ok)
	setPicky(t, "", true)
	r.load(withStores("store picky"), proxy)
	r.send("PATCH", project+"/functions/waits", nil, "{}")
	r.load(rigCaddyfile, proxy)
	if st := r.storeStatus("picky"); st.Configured || st.KeptUntil == nil || time.Until(*st.KeptUntil) < 23*time.Hour {
		t.Errorf("it is not kept: %+v", st)
	}
	if text := statusText(r); !strings.Contains(text, "kept for it until") {
		t.Error(text)
	}
	setPicky(t, "", false)
	r.load(withStores("store picky"), proxy)
	await(t, "delivery", func() bool { return r.storeStatus("picky").Pending == 0 })
	if st := r.storeStatus("picky"); st.Skipped > 0 || st.Start > 0 || st.KeptUntil != nil {
		t.Errorf("%+v", st)
	}
}

func statusText(r *rig) string {
	s := r.status()
	return s.Text()
}

func TestACheckOfAStoreSaysWhatFails(t *testing.T) {
	r := newRig(t, ok)
	r.load(withStores("store picky\nstore file %DIR%/audit.ndjson"), proxy)
	path := filepath.Join(r.dir, "Caddyfile")
	if err := os.WriteFile(path, []byte(r.expand(withStores("store picky\nstore file %DIR%/audit.ndjson"), proxy)), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(args ...string) (string, error) {
		out, messages, err := audited(t, append([]string{"store", "check", "--config", path}, args...)...)
		return out + messages, err
	}
	for name, says := range map[string]string{ // beside the server that has them open
		"sqlite": "the store took the probe", "picky": "the store took the probe", "file": "no probe was left in it",
	} {
		if out, err := check(name); err != nil || !strings.Contains(out, says) {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
	setPicky(t, "*", false)
	if out, err := check("picky"); err == nil || !strings.Contains(out, "FAILED: 422 unprocessable: it refuses what is in the probe") {
		t.Errorf("%v: %s", err, out)
	}
	setPicky(t, "", true)
	out, err := check("--json", "picky")
	var report stores.Report
	if end := strings.LastIndexByte(out, '}'); err == nil || json.Unmarshal([]byte(out[:end+1]), &report) != nil || report.OK || report.Steps[1].Error != "connection refused" {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := check("siem"); err == nil || !strings.Contains(err.Error(), "sqlite, picky, file") {
		t.Error(err)
	}
}
