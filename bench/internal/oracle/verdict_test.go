package oracle

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// world is a small run.
type world struct {
	o       *Oracle
	entries []rig.Entry
	st      rig.Status
	rules   Rules
}

func (w *world) call(id string, c Call) { w.o.calls[id] = &c }

func (w *world) store(k *Kind, id string, status int, outcome string, revision int) *rig.Entry {
	w.st.Head++
	e := rig.Entry{
		ID: fmt.Sprintf("entry-%d", w.st.Head), Revision: revision, Outcome: outcome, ProjectRef: k.Project(id),
		Target: &rig.Target{Type: k.Target, ID: id}, Origin: &rig.Origin{Instance: "i", Sequence: w.st.Head},
		Timestamp: 1e6, RecordedAt: 1e6 + 500,
	}
	e.Action.Method, e.Action.Route, e.Action.Status = k.Method, k.Template, status
	w.entries = append(w.entries, e)
	if outcome == "refused" {
		w.st.Calls.Refused++
	} else {
		w.st.Calls.Recorded++
	}
	return &w.entries[len(w.entries)-1]
}

// withhold stores a read whose answer, with that status, never left.
func (w *world) withhold(id string, status int) {
	w.st.Head++ // its first revision, which had not known that
	e := w.store(&ReadKind, id, 503, "refused", 2)
	e.Action.Metadata = fmt.Appendf(nil, `{"withheld":%d}`, status)
	w.st.Calls.Refused--
	w.st.Calls.Recorded++
}

func (w *world) event(code string) *rig.Entry {
	e := w.store(&Kind{}, "", 0, "success", 1)
	w.st.Calls.Recorded--
	e.Target, e.Action.Code = nil, code
	return e
}

// of is the entry of a call.
func (w *world) of(id string) *rig.Entry {
	for i := range w.entries {
		if w.entries[i].TargetID() == id {
			return &w.entries[i]
		}
	}
	panic("no entry of " + id)
}

// good is a run in which the promise held and nothing died: answered calls, one
// of them late, refused ones, and reads that were withheld.
func good() *world {
	w := &world{o: New(time.Second)}
	for n := range uint64(20) {
		k := &Kinds[int(n)%len(Kinds)]
		status := Statuses[int(n)%len(Statuses)]
		w.call(k.ID(n), Call{Kind: k, Status: status, Reached: true, API: status})
		w.store(k, k.ID(n), status, rig.OutcomeOf(status), 1)
	}
	k := &Kinds[0]
	w.call("read", Call{Kind: &ReadKind, Status: 200, Reached: true, API: 200})
	w.store(&ReadKind, "read", 200, "success", 1)
	w.call("broken", Call{Kind: k, Status: 502, Reached: true})
	w.store(k, "broken", 502, "failure", 1)
	w.call("late", Call{Kind: k, Reached: true, API: 200, Status: 200, Late: true})
	w.store(k, "late", 200, "success", 1)
	w.call("refused", Call{Kind: k, Status: 503, Refused: true})
	w.st.Calls.Refused++
	w.call("refused-and-stored", Call{Kind: k, Status: 503, Refused: true})
	w.store(k, "refused-and-stored", 503, "refused", 1)
	w.call("withheld", Call{Kind: &ReadKind, Status: 503, Refused: true, Late: true, Reached: true, API: 404})
	w.withhold("withheld", 404)
	w.call("withheld-broken", Call{Kind: &ReadKind, Status: 503, Refused: true, Late: true, Reached: true})
	w.withhold("withheld-broken", 502)
	w.event("audit.started")
	w.st.Calls.Seen = uint64(len(w.o.calls))
	return w
}

// killed is one in which the build was killed besides, and all that may be
// lost then was.
func killed() *world {
	w := good()
	w.rules.Deaths = true
	k := &Kinds[0]
	w.call("in-flight", Call{Kind: k, Reached: true, API: 200})
	w.store(k, "in-flight", 0, "unknown", 0)
	w.call("intent-only", Call{Kind: k})
	w.store(k, "intent-only", 0, "unknown", 0)
	w.call("late-and-died", Call{Kind: k, Reached: true, API: 200, Status: 200, Late: true})
	w.store(k, "late-and-died", 0, "unknown", 0)
	w.call("recorded-unread", Call{Kind: k, Reached: true, API: 404})
	w.store(k, "recorded-unread", 404, "failure", 1)
	w.call("lost-read", Call{Kind: &ReadKind, Reached: true, API: 200})
	w.call("withheld-unread", Call{Kind: &ReadKind, Reached: true, API: 200})
	w.withhold("withheld-unread", 200)
	w.call("withheld-and-died", Call{Kind: &ReadKind, Status: 503, Refused: true, Late: true, Reached: true, API: 200})
	w.store(&ReadKind, "withheld-and-died", 200, "success", 1)
	w.call("withheld-and-lost", Call{Kind: &ReadKind, Status: 503, Refused: true, Late: true, Reached: true, API: 200})
	return w
}

func judge(w *world) *Verdict {
	v := &Verdict{}
	if len(w.st.Stores) == 0 {
		w.st.Stores = []rig.StoreStatus{{Name: "s", Position: w.st.Head, Delivered: w.st.Head}}
	}
	v.Compare(w.o, w.entries, w.st, w.rules)
	return v
}

func TestAGoodRunHolds(t *testing.T) {
	v := judge(good())
	if !v.Held() || v.Acked != 23 || v.Reached != 25 || v.Stored != 26 || v.Refused != 4 || v.Withheld != 2 || v.Late != 1 || v.Unknown != 0 {
		t.Errorf("got %+v", v)
	}
	v = judge(killed())
	if !v.Held() || v.Acked != 24 || v.Reached != 32 || v.Stored != 32 || v.Refused != 6 || v.Withheld != 2 || v.Late != 2 || v.Unknown != 3 || v.ReadsLost != 2 {
		t.Errorf("killed: got %+v", v)
	}
}

func TestARunWithoutAnswersProvesNothing(t *testing.T) {
	v := judge(&world{o: New(time.Second)})
	if v.Held() {
		t.Errorf("got %+v", v)
	}
}

func TestPlantedFaultsAreFound(t *testing.T) {
	const always, alive, dead = "", "alive", "dead"
	id := Kinds[3].ID(3) // an answered call, entry 3
	drop := func(w *world) { w.entries = append(w.entries[:3], w.entries[4:]...) }
	for name, c := range map[string]struct {
		when  string
		plant func(*world)
		count func(*Verdict) int
	}{
		"an answered call is not stored": {always, drop, func(v *Verdict) int { return v.Missing * v.Unrecorded * v.SequenceErrors * v.CountersWrong }},
		"an answered read is not stored": {always, func(w *world) { w.call("x", Call{Kind: &ReadKind, Status: 200, Reached: true, API: 200}) }, func(v *Verdict) int { return v.Missing }},
		"a late read is not stored": {
			always, func(w *world) { w.call("x", Call{Kind: &ReadKind, Status: 200, Late: true, Reached: true, API: 200}) },
			func(v *Verdict) int { return v.LateReads },
		},
		"a late call is not stored":               {always, func(w *world) { drop(w); w.o.calls[id].Late = true }, func(v *Verdict) int { return v.Missing * v.Unrecorded }},
		"a call reached the API without intent":   {always, func(w *world) { w.call("x", Call{Kind: &Kinds[0], Reached: true, API: 200}) }, func(v *Verdict) int { return v.Unrecorded }},
		"a call is stored twice":                  {always, func(w *world) { w.store(&Kinds[3], id, w.o.calls[id].Status, "failure", 1) }, func(v *Verdict) int { return v.Duplicates }},
		"an entry is exported twice":              {always, func(w *world) { w.entries = append(w.entries, w.entries[3]) }, func(v *Verdict) int { return v.Duplicates * v.SequenceErrors }},
		"a sequence is absent":                    {always, func(w *world) { w.st.Head++ }, func(v *Verdict) int { return v.SequenceErrors }},
		"a sequence is used twice":                {always, func(w *world) { w.entries[4].Origin.Sequence = 4 }, func(v *Verdict) int { return v.SequenceErrors }},
		"a sequence lies beyond the head":         {always, func(w *world) { w.entries[4].Origin.Sequence = 400 }, func(v *Verdict) int { return v.SequenceErrors }},
		"another instance":                        {always, func(w *world) { w.entries[4].Origin.Instance = "j" }, func(v *Verdict) int { return v.SequenceErrors }},
		"no origin":                               {always, func(w *world) { w.entries[4].Origin = nil }, func(v *Verdict) int { return v.SequenceErrors }},
		"an answered call is unknown":             {always, func(w *world) { w.entries[3].Outcome, w.entries[3].Action.Status = "unknown", 0 }, func(v *Verdict) int { return v.WrongStatus }},
		"a late call is unknown and nothing died": {alive, func(w *world) { e := w.of("late"); e.Outcome, e.Action.Status = "unknown", 0 }, func(v *Verdict) int { return v.WrongStatus }},
		"a read is lost and nothing died":         {alive, func(w *world) { w.call("x", Call{Kind: &ReadKind, Reached: true, API: 200}) }, func(v *Verdict) int { return v.Unrecorded }},
		"a call has no end and nothing died": {
			alive, func(w *world) { w.o.calls[id].Status = 0; e := w.of(id); e.Outcome, e.Action.Status = "unknown", 0 },
			func(v *Verdict) int { return v.WrongStatus },
		},
		"another status is stored":              {always, func(w *world) { w.entries[3].Action.Status = 299 }, func(v *Verdict) int { return v.WrongStatus }},
		"another answer than the API's":         {always, func(w *world) { w.o.calls[id].API = 418 }, func(v *Verdict) int { return v.WrongStatus }},
		"an effect is claimed that never was":   {dead, func(w *world) { e := w.of("intent-only"); e.Outcome, e.Action.Status = "success", 200 }, func(v *Verdict) int { return v.WrongStatus }},
		"another route":                         {always, func(w *world) { w.entries[3].Action.Route = "/v1" }, func(v *Verdict) int { return v.WrongFields }},
		"another project":                       {always, func(w *world) { w.entries[3].ProjectRef = "x" }, func(v *Verdict) int { return v.WrongFields }},
		"another target type":                   {always, func(w *world) { w.entries[3].Target.Type = "x" }, func(v *Verdict) int { return v.WrongFields }},
		"a refused call reached the API":        {always, func(w *world) { w.o.calls["refused"].Reached = true }, func(v *Verdict) int { return v.RefusedReached * v.Unrecorded }},
		"a late refused call reached the API":   {always, func(w *world) { c := w.o.calls["refused"]; c.Reached, c.Late = true, true }, func(v *Verdict) int { return v.RefusedReached }},
		"a refused call is stored as done":      {always, func(w *world) { e := w.of("refused-and-stored"); e.Outcome, e.Action.Status = "success", 200 }, func(v *Verdict) int { return v.WrongStatus * v.CountersWrong }},
		"a refused read did, and did not wait":  {dead, func(w *world) { w.o.calls["withheld-and-lost"].Late = false }, func(v *Verdict) int { return v.RefusedReached }},
		"a refused read did, and nothing died":  {alive, func(w *world) { w.o.calls["refused"].Kind = &ReadKind; w.o.calls["refused"].Reached = true }, func(v *Verdict) int { return v.RefusedReached }},
		"a changing call is withheld":           {always, func(w *world) { w.o.calls["withheld"].Kind = &Kinds[0] }, func(v *Verdict) int { return v.RefusedReached * v.WrongStatus }},
		"a read is withheld and answered":       {always, func(w *world) { c := w.o.calls["withheld"]; c.Status, c.Refused = 404, false }, func(v *Verdict) int { return v.WrongStatus }},
		"a withheld read did not reach the API": {always, func(w *world) { c := w.o.calls["withheld"]; c.Reached, c.API = false, 0 }, func(v *Verdict) int { return v.WrongStatus }},
		"another answer was withheld":           {always, func(w *world) { w.o.calls["withheld"].API = 200 }, func(v *Verdict) int { return v.WrongStatus }},
		"a withheld read is stored as answered": {alive, func(w *world) {
			e := w.of("withheld")
			e.Outcome, e.Action.Status = "failure", 404
			e.Action.Metadata = nil
		}, func(v *Verdict) int { return v.WrongStatus * v.RefusedReached }},
		"a withheld read claims an outcome":       {always, func(w *world) { w.of("withheld").Outcome = "failure" }, func(v *Verdict) int { return v.WrongStatus }},
		"a withheld read is counted as refused":   {always, func(w *world) { w.st.Calls.Recorded--; w.st.Calls.Refused++ }, func(v *Verdict) int { return v.CountersWrong }},
		"a refused call is not counted":           {alive, func(w *world) { w.st.Calls.Refused--; w.st.Calls.Seen-- }, func(v *Verdict) int { return v.CountersWrong }},
		"a call is not seen":                      {alive, func(w *world) { w.st.Calls.Seen-- }, func(v *Verdict) int { return v.CountersWrong }},
		"reads are withheld, although all passes": {alive, func(w *world) { w.rules.Pass = true }, func(v *Verdict) int { return v.WrongStatus * v.RefusedReached }},
		"an entry of no call":                     {always, func(w *world) { w.store(&Kinds[0], "nobody", 200, "success", 1) }, func(v *Verdict) int { return v.Strangers }},
		"a call that nobody sent reached the API": {always, func(w *world) { w.o.unasked++ }, func(v *Verdict) int { return v.Strangers }},
		"a gap":                                {always, func(w *world) { w.event("audit.gap") }, func(v *Verdict) int { return v.Gaps }},
		"a hang":                               {always, func(w *world) { w.o.timeouts++ }, func(v *Verdict) int { return v.Hangs }},
		"the count of recorded calls is wrong": {always, func(w *world) { w.st.Calls.Recorded++ }, func(v *Verdict) int { return v.CountersWrong }},
		"calls passed that nobody let":         {always, func(w *world) { w.st.Calls.Passed++ }, func(v *Verdict) int { return v.PassedWrong }},
		"entries are not delivered":            {always, func(w *world) { w.st.Stores = []rig.StoreStatus{{Position: w.st.Head - 2}} }, func(v *Verdict) int { return v.SequenceErrors }},
	} {
		for when, from := range map[string]func() *world{alive: good, dead: killed} {
			if c.when != always && c.when != when {
				continue
			}
			w := from()
			c.plant(w)
			if v := judge(w); v.Held() || c.count(v) == 0 {
				t.Errorf("%s (%s): was not noticed: %+v", name, when, v)
			}
		}
	}
}

func TestWhatPassesIsInAGap(t *testing.T) {
	pass := func(metadata string, counted uint64) *Verdict {
		w := good()
		w.rules.Pass = true
		for _, id := range []string{"withheld", "withheld-broken"} {
			c, e := w.o.calls[id], w.of(id)
			c.Status, c.Refused, c.API = 404, false, 404
			e.Outcome, e.Action.Status, e.Action.Metadata = "failure", 404, nil
		}
		for _, id := range []string{"passed", "passed-too", "passed-read"} {
			w.call(id, Call{Kind: &Kinds[0], Reached: true, API: 200, Status: 200})
		}
		w.o.calls["passed-read"].Kind = &ReadKind
		w.st.Calls.Seen, w.st.Calls.Passed = uint64(len(w.o.calls)), counted
		for m := range strings.SplitSeq(metadata, " ") {
			m = strings.Replace(m, "{", `{"since":"2026-01-01T00:00:00Z","until":"2026-01-01T00:00:01Z",`, 1)
			w.event("audit.gap").Action.Metadata = []byte(m)
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
		"a gap without end":    pass(two+" "+`{"reason":"passed","cause":"slow","count":1,"until":"2025-01-01T00:00:00Z"}`, 3),
	} {
		if v.Held() || v.PassedWrong == 0 {
			t.Errorf("%s: was not noticed: %+v", name, v)
		}
	}
}

func TestRevisionsExplainAbsentSequences(t *testing.T) {
	w := killed()
	w.st.Head += 3
	w.entries[3].Revision = 2                               // one before it
	w.entries[4].RecordedAt = w.entries[4].Timestamp + 31e6 // was pending
	w.o.calls["in-flight"].Held = 40 * time.Second          // was pending, then unknown
	if v := judge(w); !v.Held() {
		t.Errorf("got %+v", v)
	}
	w.st.Head++
	w.st.Stores = nil
	if v := judge(w); v.SequenceErrors != 1 {
		t.Errorf("one absence more than revisions explain: got %+v", v)
	}
}

func TestExportsAreComparedLineByLine(t *testing.T) {
	w := good()
	if diff := Unequal(w.entries, w.entries[:len(w.entries)-1]); diff != "" {
		t.Errorf("an event more: %s", diff)
	}
	if Unequal(w.entries, w.entries[1:]) == "" || Unequal(w.entries[1:], w.entries) == "" {
		t.Error("a call less was not noticed")
	}
	other := append([]rig.Entry(nil), w.entries...)
	other[2].Sum[0]++
	if Unequal(w.entries, other) == "" {
		t.Error("another line was not noticed")
	}
}

func TestEquationsThatDoNotHoldAreCounted(t *testing.T) {
	v := Verdict{Acked: 1}
	st := rig.Status{Head: 3, Conserved: true, Stores: []rig.StoreStatus{{Delivered: 3}}}
	if v.Conservation(st, "now"); !v.Held() {
		t.Errorf("got %+v", v)
	}
	st.Stores[0].Delivered = 2
	if v.Conservation(st, "now"); v.Held() {
		t.Errorf("got %+v", v)
	}
}
