package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// world is a small run in which the promise held: answered calls, two whose
// connection broke before anybody got them, four changes of the policy, and
// one that an invalid configuration began and Caddy took back.
type world struct {
	o       *oracle
	entries []rig.Entry
	res     *result
}

func (w *world) store(n int, c call) {
	e := rig.Entry{
		ID: fmt.Sprintf("entry-%d", len(w.entries)), Revision: 1, Outcome: rig.OutcomeOf(c.status), ProjectRef: project,
		Target: &rig.Target{Type: target, ID: slug(n)},
	}
	e.Action.Method, e.Action.Route, e.Action.Status = c.method, template, c.status
	w.add(e)
}

func (w *world) event(code string, facts map[string]string) {
	e := rig.Entry{ID: fmt.Sprintf("event-%d", len(w.entries)), Revision: 1}
	e.Action.Code = code
	e.Action.Metadata, _ = json.Marshal(facts)
	w.add(e)
}

func (w *world) changed(from, to string) {
	w.event("audit.config_changed", map[string]string{"from": from, "to": to})
}

func (w *world) add(e rig.Entry) {
	e.Origin = &rig.Origin{Instance: "i", Sequence: uint64(len(w.entries) + 1)}
	w.entries = append(w.entries, e)
}

const answeredCalls = 20

func good() *world {
	w := &world{o: &oracle{}, res: &result{
		Invalid: 2, mayRevert: 1,
		records: &records{PolicyChanges: 4, Conserved: true, CountersAgree: true},
	}}
	w.event("audit.started", map[string]string{"config_hash": "a"})
	for n := range answeredCalls {
		c := call{method: methods[n%len(methods)], end: answered, status: statuses[n%len(statuses)], times: 1}
		c.api = c.status
		w.o.calls = append(w.o.calls, c)
		w.store(n, c)
	}
	w.o.calls = append(w.o.calls, call{method: "PATCH", end: brokenReused}, call{method: "GET", end: brokenFresh})
	for _, c := range []string{"ab", "bc", "cx", "xc", "cd", "de"} {
		w.changed(c[:1], c[1:])
	}
	return w
}

// judge compares a world with a control that broke a connection too.
func (w *world) judge() *verdict {
	w.res.compare(w.o, w.entries, uint64(len(w.entries)))
	v := &verdict{Ours: w.res, Plain: &result{Answered: 1, TransportResets: resets{Reused: 1}}}
	v.judge()
	return v
}

func TestAGoodRunHolds(t *testing.T) {
	v := good().judge()
	r := v.Ours
	if !v.Held || r.Answered != answeredCalls || r.Stored != answeredCalls || r.TransportResets != (resets{Reused: 1, Fresh: 1}) ||
		r.ConfigChanged != 4 || r.Reverted != 1 {
		t.Errorf("got %+v with %+v: %q", r, r.records, r.problems)
	}
}

func TestPlantedFaultsAreFound(t *testing.T) {
	const broken, call3 = answeredCalls, 4 // the entry of call 3 is the fifth
	for name, c := range map[string]struct {
		plant func(*world)
		count func(*result) int
	}{
		"an answered call is not stored": {
			func(w *world) { w.entries = append(w.entries[:call3], w.entries[call3+1:]...) },
			func(r *result) int { return r.Missing * r.Unrecorded * r.SequenceErrors },
		},
		"a call reached the API and is not stored": {
			func(w *world) { w.o.calls[broken].times = 1 },
			func(r *result) int { return r.Unrecorded * r.Lost },
		},
		"an answer was lost on its way back": {
			func(w *world) { w.o.calls[broken].times = 1; w.store(broken, w.o.calls[broken]) },
			func(r *result) int { return r.Lost },
		},
		"a call broke off after its intent": {
			func(w *world) { w.store(broken, w.o.calls[broken]) },
			func(r *result) int { return r.Lost },
		},
		"a call is stored twice": {
			func(w *world) { w.store(3, w.o.calls[3]) },
			func(r *result) int { return r.Duplicates },
		},
		"an entry is exported twice": {
			func(w *world) { w.entries = append(w.entries, w.entries[call3]) },
			func(r *result) int { return r.Duplicates * r.SequenceErrors },
		},
		"a sequence is used twice": {
			func(w *world) { w.entries[call3].Origin.Sequence++ },
			func(r *result) int { return r.SequenceErrors },
		},
		"another status is stored": {
			func(w *world) { w.entries[call3].Action.Status = 299 },
			func(r *result) int { return r.WrongEntries },
		},
		"an unknown end is stored": {
			func(w *world) { w.entries[call3].Outcome = "unknown" },
			func(r *result) int { return r.WrongEntries },
		},
		"another route is stored": {
			func(w *world) { w.entries[call3].Action.Route = "/v1" },
			func(r *result) int { return r.WrongEntries },
		},
		"an entry of no call": {
			func(w *world) { w.store(400, call{method: "GET", status: 200}) },
			func(r *result) int { return r.WrongEntries },
		},
		"a gap": {
			func(w *world) { w.event("audit.gap", nil) },
			func(r *result) int { return r.Gaps },
		},
		"a refused call": {
			func(w *world) { w.o.calls[broken] = call{method: "GET", end: refused, status: 503} },
			func(r *result) int { return r.Refused },
		},
		"another answer than the API's": {
			func(w *world) { w.o.calls[3].api = 418 },
			func(r *result) int { return r.WrongAnswers },
		},
		"an answer that nobody gave": {
			func(w *world) { w.o.calls[broken].end = foreign },
			func(r *result) int { return r.WrongAnswers },
		},
		"a cut answer": {
			func(w *world) { w.o.calls[broken].end = cut },
			func(r *result) int { return r.Cut },
		},
		"no answer at all": {
			func(w *world) { w.o.calls[broken].end = hung },
			func(r *result) int { return r.Hung },
		},
		"a call that was sent to the API again": {
			func(w *world) { w.o.calls[3].times = 2 },
			func(r *result) int { return r.Repeated },
		},
		"nobody listens": {
			func(w *world) { w.o.unconnected = []error{syscall.ECONNREFUSED} },
			func(r *result) int { return r.Unreachable },
		},
		"a change is not told": {
			func(w *world) { w.res.PolicyChanges++ },
			func(r *result) int { return r.WrongChanges },
		},
		"a change is told that never was": {
			func(w *world) { w.changed("e", "f") },
			func(r *result) int { return r.WrongChanges },
		},
		"a change is told twice": {
			func(w *world) { w.changed("d", "e") },
			func(r *result) int { return r.WrongChanges },
		},
		"an invalid configuration stays": {
			func(w *world) { w.changed("e", "x") },
			func(r *result) int { return r.WrongChanges },
		},
		"an older configuration than the last comes back": {
			func(w *world) { w.changed("e", "b"); w.res.PolicyChanges++ },
			func(r *result) int { return r.WrongChanges },
		},
		"a taken change is reverted": {
			func(w *world) { w.changed("e", "d"); w.res.PolicyChanges-- },
			func(r *result) int { return r.WrongChanges },
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := good()
			c.plant(w)
			if v := w.judge(); c.count(v.Ours) == 0 || v.Held {
				t.Errorf("was not noticed: %+v with %+v", v.Ours, v.Ours.records)
			}
		})
	}
}

// What the run itself measures must count as well.
func TestTheVerdictNeedsAllOfIt(t *testing.T) {
	for name, plant := range map[string]func(*verdict){
		"goroutines stay":        func(v *verdict) { v.Ours.After.Goroutines++ },
		"files stay open":        func(v *verdict) { v.Ours.After.Files++ },
		"not conserved":          func(v *verdict) { v.Ours.Conserved = false },
		"counters disagree":      func(v *verdict) { v.Ours.CountersAgree = false },
		"a reload went wrong":    func(v *verdict) { v.Ours.WrongReloads++ },
		"so did the control's":   func(v *verdict) { v.Plain.WrongReloads++ },
		"nothing was invalid":    func(v *verdict) { v.Ours.Invalid = 0 },
		"many more broke":        func(v *verdict) { v.Ours.TransportResets.Fresh = 13 },
		"nobody was answered":    func(v *verdict) { v.Ours.Answered = 0 },
		"the control did no job": func(v *verdict) { v.Plain.Answered = 0 },
	} {
		v := good().judge()
		plant(v)
		if v.judge(); v.Held {
			t.Errorf("%s: it held", name)
		}
	}
}

// The shipped Caddyfile is what is changed line by line.
func TestTheShippedCaddyfileCanBeChanged(t *testing.T) {
	b, err := os.ReadFile("../../Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if same, err := (rig.Changes{}).Apply(text); err != nil || same != text {
		t.Errorf("no change changes it: %v", err)
	}
	changed, err := rig.Changes{3, 6, 9, 12}.Apply(text)
	for _, want := range []string{"\tmax_wait 2003ms\n", "\tmax_size 8198MiB\n", "@probes path /health /healthz /probe-9\n", "\tsegment_size 16MiB\n"} {
		if err != nil || !strings.Contains(changed, want) {
			t.Errorf("%q is missing: %v\n%s", want, err, changed)
		}
	}
	plain, err := withoutAudit(text)
	if err != nil || !strings.Contains(plain, "reverse_proxy") || strings.Count(plain, "{") != strings.Count(plain, "}") {
		t.Errorf("the control: %v\n%s", err, plain)
	}
	all, err := faults(1, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.text != nil && f.text(text) == text {
			t.Errorf("%s changes nothing", f.name)
		}
	}
	if _, err := (rig.Changes{}).Apply(plain); err == nil {
		t.Error("a Caddyfile without the lines can be changed")
	}
	if _, err := withoutAudit(plain); err == nil {
		t.Error("the control can be derived from itself")
	}
}

func TestAConnectionThatIsResetIsNoFailedCall(t *testing.T) {
	w := good()
	w.o.unconnected = []error{fmt.Errorf("dialling: %w", syscall.ECONNRESET)}
	if v := w.judge(); !v.Held || v.Ours.TransportResets.Unconnected != 1 {
		t.Errorf("got %+v", v.Ours)
	}
}
