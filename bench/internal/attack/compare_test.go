package attack

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// world is a small run in which the promise held: answered calls, one that
// reached the API and whose end is unknown, one whose intent is all there is,
// a read that was lost in flight, one that was refused, one that was answered
// late.
type world struct {
	w       *Witness
	entries []rig.Entry
	st      rig.Status
	rules   Rules
}

func (w *world) store(k *Kind, id string, status int, outcome string, revision int) *rig.Entry {
	w.st.Head++
	e := rig.Entry{
		ID: fmt.Sprintf("entry-%d", w.st.Head), Revision: revision, Outcome: outcome, ProjectRef: k.project(id),
		Target: &rig.Target{Type: k.Target, ID: id}, Origin: &rig.Origin{Instance: "i", Sequence: w.st.Head},
		Timestamp: 1e6, RecordedAt: 1e6 + 500,
	}
	e.Action.Method, e.Action.Route, e.Action.Status = k.Method, k.Template, status
	w.entries = append(w.entries, e)
	if outcome != "refused" {
		w.st.Calls.Recorded++
	}
	return &w.entries[len(w.entries)-1]
}

func (w *world) event(code string) *rig.Entry {
	e := w.store(&Kind{}, "", 0, "success", 1)
	w.st.Calls.Recorded--
	e.Target, e.Action.Code = nil, code
	return e
}

func good() *world {
	w := &world{w: NewWitness(time.Second), rules: Rules{Deaths: true}}
	for n := range uint64(20) {
		k := &Kinds[int(n)%len(Kinds)]
		status := statuses[int(n)%len(statuses)]
		w.w.calls[k.id(n)] = &Call{Kind: k, Status: status, Reached: true, API: status}
		w.store(k, k.id(n), status, rig.OutcomeOf(status), 1)
	}
	k := &Kinds[0]
	w.w.calls["in-flight"] = &Call{Kind: k, Reached: true, API: 200}
	w.store(k, "in-flight", 0, "unknown", 0)
	w.w.calls["intent-only"] = &Call{Kind: k}
	w.store(k, "intent-only", 0, "unknown", 0)
	w.w.calls["late"] = &Call{Kind: k, Reached: true, API: 200, Status: 200, Late: true}
	w.store(k, "late", 0, "unknown", 0)
	w.w.calls["recorded-unread"] = &Call{Kind: k, Reached: true, API: 404}
	w.store(k, "recorded-unread", 404, "failure", 1)
	w.w.calls["lost-read"] = &Call{Kind: &ReadKind, Reached: true, API: 200}
	w.w.calls["refused"] = &Call{Kind: k, Status: 503, Refused: true}
	w.w.calls["refused-and-stored"] = &Call{Kind: k, Status: 503, Refused: true}
	w.store(k, "refused-and-stored", 0, "refused", 1)
	w.w.calls["withheld-read"] = &Call{Kind: &ReadKind, Status: 503, Refused: true, Late: true, Reached: true, API: 200}
	w.store(&ReadKind, "withheld-read", 200, "success", 1)
	w.w.calls["withheld-read-lost"] = &Call{Kind: &ReadKind, Status: 503, Refused: true, Late: true, Reached: true, API: 200}
	w.event("audit.started")
	return w
}

func judge(w *world) *Verdict {
	v := &Verdict{}
	if len(w.st.Stores) == 0 {
		w.st.Stores = []rig.StoreStatus{{Name: "s", Position: w.st.Head, Delivered: w.st.Head}}
	}
	v.Compare(w.w, w.entries, w.st, w.rules)
	return v
}

func TestAGoodRunHolds(t *testing.T) {
	v := judge(good())
	if !v.Held() {
		t.Errorf("got %+v", v)
	}
	if v.Acked != 21 || v.Reached != 26 || v.Stored != 26 || v.Unknown != 3 || v.ReadsLost != 2 || v.Refused != 4 || v.Late != 1 {
		t.Errorf("counted %+v", v)
	}
}

func TestARunWithoutAnswersProvesNothing(t *testing.T) {
	v := judge(&world{w: NewWitness(time.Second)})
	if v.Held() {
		t.Errorf("got %+v", v)
	}
}

func TestPlantedFaultsAreFound(t *testing.T) {
	id := Kinds[3].id(3) // an answered call, entry 3
	drop := func(w *world) { w.entries = append(w.entries[:3], w.entries[4:]...) }
	for name, c := range map[string]struct {
		plant func(*world)
		count func(*Verdict) int
	}{
		"an answered call is not stored":          {drop, func(v *Verdict) int { return v.Missing * v.Unrecorded * v.SequenceErrors * v.CountersWrong }},
		"an answered read is not stored":          {func(w *world) { w.w.calls["lost-read"].Status = 200 }, func(v *Verdict) int { return v.Missing }},
		"a late read is not stored":               {func(w *world) { c := w.w.calls["lost-read"]; c.Status, c.Late = 200, true }, func(v *Verdict) int { return v.LateReads }},
		"a late call is not stored":               {func(w *world) { drop(w); w.w.calls[id].Late = true }, func(v *Verdict) int { return v.Missing * v.Unrecorded }},
		"a call reached the API without intent":   {func(w *world) { w.w.calls["x"] = &Call{Kind: &Kinds[0], Reached: true, API: 200} }, func(v *Verdict) int { return v.Unrecorded }},
		"a call is stored twice":                  {func(w *world) { w.store(&Kinds[3], id, w.w.calls[id].Status, "failure", 1) }, func(v *Verdict) int { return v.Duplicates }},
		"an entry is exported twice":              {func(w *world) { w.entries = append(w.entries, w.entries[3]) }, func(v *Verdict) int { return v.Duplicates * v.SequenceErrors }},
		"a sequence is absent":                    {func(w *world) { w.st.Head++ }, func(v *Verdict) int { return v.SequenceErrors }},
		"a sequence is used twice":                {func(w *world) { w.entries[4].Origin.Sequence = 4 }, func(v *Verdict) int { return v.SequenceErrors }},
		"a sequence lies beyond the head":         {func(w *world) { w.entries[4].Origin.Sequence = 400 }, func(v *Verdict) int { return v.SequenceErrors }},
		"another instance":                        {func(w *world) { w.entries[4].Origin.Instance = "j" }, func(v *Verdict) int { return v.SequenceErrors }},
		"no origin":                               {func(w *world) { w.entries[4].Origin = nil }, func(v *Verdict) int { return v.SequenceErrors }},
		"an answered call is unknown":             {func(w *world) { w.entries[3].Outcome, w.entries[3].Action.Status = "unknown", 0 }, func(v *Verdict) int { return v.WrongStatus }},
		"a read is lost and nothing died":         {func(w *world) { w.rules.Deaths = false }, func(v *Verdict) int { return v.Unrecorded }},
		"a late call is unknown and nothing died": {func(w *world) { w.rules.Deaths = false }, func(v *Verdict) int { return v.WrongStatus }},
		"another status is stored":                {func(w *world) { w.entries[3].Action.Status = 299 }, func(v *Verdict) int { return v.WrongStatus }},
		"another answer than the API's":           {func(w *world) { w.w.calls[id].API = 418 }, func(v *Verdict) int { return v.WrongStatus }},
		"an effect is claimed that never was":     {func(w *world) { e := &w.entries[21]; e.Outcome, e.Action.Status = "success", 200 }, func(v *Verdict) int { return v.WrongStatus }},
		"another route":                           {func(w *world) { w.entries[3].Action.Route = "/v1" }, func(v *Verdict) int { return v.WrongFields }},
		"another project":                         {func(w *world) { w.entries[3].ProjectRef = "x" }, func(v *Verdict) int { return v.WrongFields }},
		"another target type":                     {func(w *world) { w.entries[3].Target.Type = "x" }, func(v *Verdict) int { return v.WrongFields }},
		"a refused call reached the API":          {func(w *world) { w.w.calls["refused"].Reached = true }, func(v *Verdict) int { return v.RefusedReached }},
		"a refused read did, and did not wait":    {func(w *world) { w.w.calls["withheld-read-lost"].Late = false }, func(v *Verdict) int { return v.RefusedReached }},
		"a late refused call reached the API":     {func(w *world) { c := w.w.calls["refused"]; c.Reached, c.Late = true, true }, func(v *Verdict) int { return v.RefusedReached }},
		"a withheld read is stored wrongly":       {func(w *world) { w.w.calls["withheld-read"].API = 404 }, func(v *Verdict) int { return v.WrongStatus }},
		"an entry of no call":                     {func(w *world) { w.store(&Kinds[0], "nobody", 200, "success", 1) }, func(v *Verdict) int { return v.Strangers }},
		"a call that nobody sent reached the API": {func(w *world) { w.w.unasked++ }, func(v *Verdict) int { return v.Strangers }},
		"a gap":                                {func(w *world) { w.event("audit.gap") }, func(v *Verdict) int { return v.Gaps }},
		"a hang":                               {func(w *world) { w.w.timeouts++ }, func(v *Verdict) int { return v.Hangs }},
		"the count of recorded calls is wrong": {func(w *world) { w.st.Calls.Recorded++ }, func(v *Verdict) int { return v.CountersWrong }},
		"calls passed that nobody let":         {func(w *world) { w.st.Calls.Passed++ }, func(v *Verdict) int { return v.PassedWrong }},
		"entries are not delivered":            {func(w *world) { w.st.Stores = []rig.StoreStatus{{Position: w.st.Head - 2}} }, func(v *Verdict) int { return v.SequenceErrors }},
	} {
		w := good()
		c.plant(w)
		if v := judge(w); v.Held() || c.count(v) == 0 {
			t.Errorf("%s: was not noticed: %+v", name, v)
		}
	}
}

func TestWhatPassesIsInAGap(t *testing.T) {
	pass := func(metadata string, counted uint64) *Verdict {
		w := good()
		w.rules.Pass = true // the read that was lost in flight is one of them
		delete(w.w.calls, "withheld-read-lost")
		w.w.calls["passed"] = &Call{Kind: &Kinds[0], Reached: true, API: 200, Status: 200}
		w.w.calls["passed-unread"] = &Call{Kind: &Kinds[0], Reached: true, API: 200}
		w.st.Calls.Passed = counted
		for m := range strings.SplitSeq(metadata, " ") {
			w.event("audit.gap").Action.Metadata = json.RawMessage(m)
		}
		return judge(w)
	}
	const two, one = `{"reason":"passed","cause":"failing","count":2}`, `{"reason":"passed","cause":"slow","count":1}`
	if v := pass(two+" "+one, 3); !v.Held() || v.Passed != 3 {
		t.Errorf("got %+v", v)
	}
	for name, v := range map[string]*Verdict{
		"one is in no gap":     pass(two, 3),
		"one is not counted":   pass(two+" "+one, 2),
		"a gap too many":       pass(two+" "+one+" "+one, 3),
		"another reason":       pass(two+" "+`{"reason":"detached","cause":"slow","count":1}`, 3),
		"another cause":        pass(two+" "+`{"reason":"passed","cause":"mood","count":1}`, 3),
		"a gap without number": pass(two+" "+`{"reason":"passed","cause":"slow"}`, 3),
	} {
		if v.Held() || v.PassedWrong == 0 {
			t.Errorf("%s: was not noticed: %+v", name, v)
		}
	}
}

func TestRevisionsExplainAbsentSequences(t *testing.T) {
	w := good()
	w.st.Head++ // an answer that was stored and then replaced by its revision
	w.entries[3].Revision = 2
	w.entries[3].Origin.Sequence = w.st.Head
	w.st.Head++ // a call that was pending for a while
	w.entries[4].RecordedAt = w.entries[4].Timestamp + (31 * time.Second).Microseconds()
	if v := judge(w); !v.Held() {
		t.Errorf("got %+v", v)
	}
}

func TestUnconservedIsCounted(t *testing.T) {
	v := Verdict{Acked: 1}
	st := rig.Status{Head: 3, Conserved: true, Stores: []rig.StoreStatus{{Delivered: 3}}}
	if v.Conserved(st, "now"); !v.Held() {
		t.Errorf("got %+v", v)
	}
	st.Stores[0].Delivered = 2
	if v.Conserved(st, "now"); v.Held() {
		t.Errorf("got %+v", v)
	}
}

func TestAnOptionOfTheBufferIsSet(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "given")
	if err := os.WriteFile(path, []byte("{\n\taudit_log {\n\t\tbuffer /x {\n\t\t\tmax_wait 2s # why\n\t\t}\n\t}\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for option, want := range map[string]string{
		"max_wait":     "buffer /x {\n\t\t\tmax_wait 9\n\t\t}",
		"segment_size": "buffer /x {\n\t\t\tsegment_size 9\n\t\t\tmax_wait 2s # why\n\t\t}",
	} {
		got, err := WithBuffer(path, dir, option, "9")
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(got); err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s: %v\n%s", option, err, b)
		}
	}
	if got, err := WithBuffer(path, dir, "max_wait", ""); err != nil || got != path {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := WithBuffer(os.DevNull, dir, "max_wait", "1"); err == nil {
		t.Error("a file without a buffer block was accepted")
	}
}
