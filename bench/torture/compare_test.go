package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/oracle"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// world is a small run in which the promise held: answered calls, one that
// reached the API and whose end is unknown, one whose intent is all there is,
// a read that was lost in flight, one that was refused.
type world struct {
	calls   map[string]*oracle.Call
	entries []rig.Entry
	head    uint64
}

func (w *world) store(k *oracle.Kind, id string, status int, outcome string, revision int) *rig.Entry {
	w.head++
	e := rig.Entry{
		ID: fmt.Sprintf("entry-%d", w.head), Revision: revision, Outcome: outcome, ProjectRef: k.Project(id),
		Target: &rig.Target{Type: k.Target, ID: id}, Origin: &rig.Origin{Instance: "i", Sequence: w.head},
		Timestamp: 1e6, RecordedAt: 1e6 + 500,
	}
	e.Action.Method, e.Action.Route, e.Action.Status = k.Method, k.Template, status
	w.entries = append(w.entries, e)
	return &w.entries[len(w.entries)-1]
}

func good() *world {
	w := &world{calls: map[string]*oracle.Call{}}
	for n := range uint64(20) {
		k := &oracle.Kinds[int(n)%len(oracle.Kinds)]
		status := oracle.Statuses[int(n)%len(oracle.Statuses)]
		w.calls[k.ID(n)] = &oracle.Call{Kind: k, Status: status, Reached: true, API: status}
		w.store(k, k.ID(n), status, rig.OutcomeOf(status), 1)
	}
	k := &oracle.Kinds[0]
	w.calls["in-flight"] = &oracle.Call{Kind: k, Reached: true, API: 200}
	w.store(k, "in-flight", 0, "unknown", 0)
	w.calls["intent-only"] = &oracle.Call{Kind: k}
	w.store(k, "intent-only", 0, "unknown", 0)
	w.calls["recorded-unread"] = &oracle.Call{Kind: k, Reached: true, API: 404}
	w.store(k, "recorded-unread", 404, "failure", 1)
	w.calls["lost-read"] = &oracle.Call{Kind: &oracle.ReadKind, Reached: true, API: 200}
	w.calls["refused"] = &oracle.Call{Kind: k, Status: 503, Refused: true}
	event := w.store(&oracle.Kind{}, "", 0, "success", 1)
	event.Target, event.Action.Code = nil, "audit.started"
	return w
}

func judge(w *world) *verdict {
	v := &verdict{Conserved: true, CountersAgree: true, OfflineEqual: true}
	v.compare(w.calls, w.entries, w.head)
	return v
}

func TestAGoodRunHolds(t *testing.T) {
	v := judge(good())
	if !v.held() {
		t.Errorf("got %+v", v)
	}
	if v.Acked != 20 || v.Reached != 23 || v.Stored != 23 || v.Unknown != 2 || v.ReadsLost != 1 || v.Refused != 1 {
		t.Errorf("counted %+v", v)
	}
}

func TestPlantedFaultsAreFound(t *testing.T) {
	id := oracle.Kinds[3].ID(3) // an answered call, entry 3
	for name, c := range map[string]struct {
		plant func(*world)
		count func(*verdict) int
	}{
		"an answered call is not stored": {
			func(w *world) { w.entries = append(w.entries[:3], w.entries[4:]...) },
			func(v *verdict) int { return v.Missing * v.Unrecorded * v.SequenceErrors },
		},
		"an answered read is not stored": {
			func(w *world) { w.calls["lost-read"].Status = 200 },
			func(v *verdict) int { return v.Missing },
		},
		"a call reached the API without an intent": {
			func(w *world) { w.calls["x"] = &oracle.Call{Kind: &oracle.Kinds[0], Reached: true, API: 200} },
			func(v *verdict) int { return v.Unrecorded },
		},
		"a call is stored twice": {
			func(w *world) { w.store(&oracle.Kinds[3], id, w.calls[id].Status, "failure", 1) },
			func(v *verdict) int { return v.Duplicates },
		},
		"an entry is exported twice": {
			func(w *world) { w.entries = append(w.entries, w.entries[3]) },
			func(v *verdict) int { return v.Duplicates * v.SequenceErrors },
		},
		"a sequence is absent": {
			func(w *world) { w.head++ },
			func(v *verdict) int { return v.SequenceErrors },
		},
		"a sequence is used twice": {
			func(w *world) { w.entries[4].Origin.Sequence = 4 },
			func(v *verdict) int { return v.SequenceErrors },
		},
		"a sequence lies beyond the head": {
			func(w *world) { w.entries[4].Origin.Sequence = 400 },
			func(v *verdict) int { return v.SequenceErrors },
		},
		"another instance": {
			func(w *world) { w.entries[4].Origin.Instance = "j" },
			func(v *verdict) int { return v.SequenceErrors },
		},
		"no origin": {
			func(w *world) { w.entries[4].Origin = nil },
			func(v *verdict) int { return v.SequenceErrors },
		},
		"an answered call is unknown": {
			func(w *world) { w.entries[3].Outcome, w.entries[3].Action.Status = "unknown", 0 },
			func(v *verdict) int { return v.WrongStatus },
		},
		"another status is stored": {
			func(w *world) { w.entries[3].Action.Status = 299 },
			func(v *verdict) int { return v.WrongStatus },
		},
		"another answer than the API's": {
			func(w *world) { w.calls[id].API = 418 },
			func(v *verdict) int { return v.WrongStatus },
		},
		"an effect is claimed that never was": {
			func(w *world) { e := &w.entries[21]; e.Outcome, e.Action.Status = "success", 200 },
			func(v *verdict) int { return v.WrongStatus },
		},
		"another route": {
			func(w *world) { w.entries[3].Action.Route = "/v1" },
			func(v *verdict) int { return v.WrongFields },
		},
		"another project": {
			func(w *world) { w.entries[3].ProjectRef = "x" },
			func(v *verdict) int { return v.WrongFields },
		},
		"a refused call reached the API": {
			func(w *world) { w.calls["refused"].Reached = true },
			func(v *verdict) int { return v.RefusedReached },
		},
		"an entry of nobody's call": {
			func(w *world) { w.store(&oracle.Kinds[0], "nobody", 200, "success", 1) },
			func(v *verdict) int { return v.Strangers },
		},
		"a reported gap": {
			func(w *world) { w.store(&oracle.Kinds[0], "", 0, "success", 1).Action.Code = "audit.gap" },
			func(v *verdict) int { return v.Gaps },
		},
	} {
		w := good()
		c.plant(w)
		if v := judge(w); c.count(v) == 0 || v.held() {
			t.Errorf("%s: was not noticed: %+v", name, v)
		}
	}
}

func TestRevisionsExplainAbsentSequences(t *testing.T) {
	w := good()
	w.head += 3
	w.entries[3].Revision = 2                               // one before it
	w.entries[4].RecordedAt = w.entries[4].Timestamp + 31e6 // was pending
	w.calls["in-flight"].Held = 40 * time.Second            // was pending, then unknown
	if v := judge(w); !v.held() {
		t.Errorf("three superseded entries: got %+v", v)
	}
	w.head++
	if v := judge(w); v.SequenceErrors != 1 {
		t.Errorf("one absence more than revisions explain: got %+v", v)
	}
}

func TestExportsAreComparedLineByLine(t *testing.T) {
	w := good()
	if diff := oracle.Unequal(w.entries, w.entries[:len(w.entries)-1]); diff != "" {
		t.Errorf("an event more: %s", diff)
	}
	if oracle.Unequal(w.entries, w.entries[1:]) == "" || oracle.Unequal(w.entries[1:], w.entries) == "" {
		t.Error("a call less was not noticed")
	}
	other := append([]rig.Entry(nil), w.entries...)
	other[2].Sum[0]++
	if oracle.Unequal(w.entries, other) == "" {
		t.Error("another line was not noticed")
	}
}
