package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/oracle"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// world is a small run in which the promise held: calls before, while and
// after there was no room.
type world struct {
	mode    string
	calls   map[string]*oracle.Call
	entries []rig.Entry
	st      rig.Status
	pressed time.Time
	freed   time.Time
}

func (w *world) call(n uint64, began time.Time) (string, *oracle.Call) {
	k := &oracle.Kinds[int(n)%len(oracle.Kinds)]
	status := oracle.Statuses[int(n)%len(oracle.Statuses)]
	c := &oracle.Call{Kind: k, Status: status, Reached: true, API: status, Began: began, Ended: began.Add(5 * time.Millisecond)}
	w.calls[k.ID(n)] = c
	w.st.Calls.Seen++
	return k.ID(n), c
}

func (w *world) store(id string, c *oracle.Call) *rig.Entry {
	w.st.Calls.Recorded++
	e := w.event("")
	e.Outcome, e.ProjectRef, e.Target = rig.OutcomeOf(c.Status), c.Kind.Project(id), &rig.Target{Type: c.Kind.Target, ID: id}
	e.Action.Method, e.Action.Route, e.Action.Status = c.Kind.Method, c.Kind.Template, c.Status
	return e
}

func (w *world) event(code string) *rig.Entry {
	w.st.Head++
	w.st.Stores[0].Position = w.st.Head
	e := rig.Entry{ID: fmt.Sprintf("entry-%d", w.st.Head), Revision: 1, Origin: &rig.Origin{Instance: "i", Sequence: w.st.Head}}
	e.Action.Code = code
	w.entries = append(w.entries, e)
	return &w.entries[len(w.entries)-1]
}

func (w *world) gap(cause string, count int, since, until time.Time) *rig.Entry {
	e := w.event("audit.gap")
	e.Action.Metadata = fmt.Appendf(nil, `{"reason":"passed","cause":%q,"count":%d,"since":%q,"until":%q}`,
		cause, count, since.Format(time.RFC3339), until.Format(time.RFC3339))
	return e
}

func good(mode string) *world {
	start := time.Now().Add(-time.Hour)
	w := &world{
		mode: mode, calls: map[string]*oracle.Call{}, pressed: start.Add(10 * time.Second), freed: start.Add(70 * time.Second),
		st: rig.Status{Conserved: true, Stores: []rig.StoreStatus{{Name: "s"}}},
	}
	w.event("audit.started")
	for n := range uint64(10) {
		id, c := w.call(n, start.Add(time.Duration(n)*time.Second))
		w.store(id, c)
	}
	for n := uint64(10); n < 20; n++ {
		id, c := w.call(n, w.pressed.Add(time.Duration(n)*time.Second))
		switch {
		case n == 10: // its outcome had to wait
			c.Ended = c.Began.Add(2 * time.Second)
			w.store(id, c)
		case mode == reject:
			*c = oracle.Call{Kind: c.Kind, Status: 503, Refused: true, Began: c.Began, Ended: c.Ended}
			w.st.Calls.Refused++
			switch n {
			case 11: // one of them has an entry
				e := w.store(id, c)
				e.Outcome = "refused"
				w.st.Calls.Recorded--
			case 12: // and one is a read that the disk failed after the API
				delete(w.calls, id)
				c.Kind, c.Reached, c.API = &oracle.ReadKind, true, 404
				w.calls["withheld"] = c
				e := w.store("withheld", c)
				e.Outcome, e.Action.Metadata = "refused", []byte(`{"withheld":404}`)
				w.st.Calls.Refused--
			}
		default:
			w.st.Calls.Passed++
		}
	}
	if mode == pass {
		w.gap("slow", 2, w.pressed.Add(11*time.Second), w.pressed.Add(12*time.Second))
		w.gap("full", 7, w.pressed.Add(13*time.Second), w.freed)
	}
	for n := uint64(20); n < 25; n++ {
		id, c := w.call(n, w.freed.Add(time.Duration(n-18)*time.Second))
		w.store(id, c)
	}
	w.st.Head++ // the call that waited had been written down as pending
	w.st.Stores[0].Position = w.st.Head
	return w
}

func judge(w *world) *result {
	v := &result{Mode: w.mode, pressed: w.pressed, freed: w.freed}
	v.compare(w.calls, w.entries, w.st)
	return v
}

func TestAGoodRunHolds(t *testing.T) {
	v := judge(good(reject))
	if !v.held() || v.Refused != 9 || v.Withheld != 1 || v.Passed != 0 || v.Stored != 18 || v.Acked != 16 {
		t.Errorf("reject: got %+v", v)
	}
	if v.Late != 1 || v.SlowestMS != 2000 || v.RecordedAgainMS != 2005 {
		t.Errorf("reject: figures: got %+v", v)
	}
	v = judge(good(pass))
	if !v.held() || v.Refused != 0 || v.Passed != 9 || v.Stored != 16 || v.Acked != 25 || v.Gaps != 2 || v.GapCount != 9 {
		t.Errorf("pass: got %+v", v)
	}
}

func TestPlantedFaultsAreFound(t *testing.T) {
	id := oracle.Kinds[3].ID(3)                        // answered and stored as entry 4
	away := oracle.Kinds[15%len(oracle.Kinds)].ID(15)  // refused, or passed
	after := oracle.Kinds[22%len(oracle.Kinds)].ID(22) // there was room again
	drop := func(w *world, i int) { w.entries = append(w.entries[:i], w.entries[i+1:]...) }
	last := func(w *world) *rig.Entry { return &w.entries[len(w.entries)-6] } // pass: its second gap
	for name, c := range map[string]struct {
		mode  string
		plant func(*world)
		count func(*result) int
	}{
		"an answered call is not stored": {
			reject,
			func(w *world) { drop(w, 4); w.st.Calls.Recorded-- },
			func(v *result) int { return v.Missing * v.Unrecorded * v.WrongCounts },
		},
		"an answered call is not stored, and counted": {
			reject,
			func(w *world) { drop(w, 4) },
			func(v *result) int { return v.Missing * v.WrongCounts * v.SequenceErrors },
		},
		"a call is passed, although it is to be refused": {
			reject,
			func(w *world) {
				c := w.calls[away]
				c.Status, c.Refused, c.Reached = 200, false, true
				w.st.Calls.Refused--
				w.st.Calls.Passed++
			},
			func(v *result) int { return v.Missing * v.Unrecorded * v.WrongCounts },
		},
		"a refused call reached the API": {
			reject,
			func(w *world) { w.calls[away].Reached = true },
			func(v *result) int { return v.RefusedReached * v.Unrecorded },
		},
		"a withheld read is counted as refused": {
			reject,
			func(w *world) { w.st.Calls.Refused++; w.st.Calls.Recorded-- },
			func(v *result) int { return v.WrongCounts },
		},
		"a changing call is withheld": {
			reject,
			func(w *world) {
				w.calls["withheld"].Kind = &oracle.Kinds[0]
			},
			func(v *result) int { return v.RefusedReached * v.WrongStatus },
		},
		"another answer was withheld": {
			reject,
			func(w *world) { w.calls["withheld"].API = 200 },
			func(v *result) int { return v.WrongStatus },
		},
		"a read is withheld and its entry does not say so": {
			reject,
			func(w *world) {
				for i := range w.entries {
					if w.entries[i].TargetID() == "withheld" {
						w.entries[i].Action.Metadata = nil
					}
				}
			},
			func(v *result) int { return v.RefusedReached * v.WrongCounts },
		},
		"a read is withheld, although it is to pass": {
			pass,
			func(w *world) {
				c := w.calls[id]
				c.Kind, c.Status, c.Refused = &oracle.ReadKind, 503, true
				e := &w.entries[4]
				e.Outcome, e.Action.Status, e.Action.Metadata = "refused", 503, fmt.Appendf(nil, `{"withheld":%d}`, c.API)
			},
			func(v *result) int { return v.WronglyRefused * v.RefusedReached * v.WrongStatus },
		},
		"a refused call is not counted": {
			reject,
			func(w *world) { w.st.Calls.Refused--; w.st.Calls.Seen-- },
			func(v *result) int { return v.WrongCounts },
		},
		"a refused call is counted twice": {
			reject,
			func(w *world) { w.st.Calls.Refused++; w.st.Calls.Seen++ },
			func(v *result) int { return v.WrongCounts },
		},
		"a refused call is counted as recorded": {
			reject,
			func(w *world) { w.st.Calls.Refused--; w.st.Calls.Recorded++ },
			func(v *result) int { return v.WrongCounts },
		},
		"a refused call is stored as done": {
			reject,
			func(w *world) {
				for i := range w.entries {
					if w.entries[i].Outcome == "refused" && w.entries[i].Action.Metadata == nil {
						w.entries[i].Outcome, w.entries[i].Action.Status = "success", 200
					}
				}
			},
			func(v *result) int { return v.WrongStatus * v.WrongCounts },
		},
		"a gap, although nothing is passed": {
			reject,
			func(w *world) { w.gap("full", 1, w.pressed, w.freed) },
			func(v *result) int { return v.WrongGaps },
		},
		"a call gets no answer": {
			reject,
			func(w *world) { w.calls[id].Status = 0 },
			func(v *result) int { return v.Unanswered },
		},
		"a call is open for ever": {
			reject,
			func(w *world) { w.st.Calls.Open++; w.st.Calls.Seen++ },
			func(v *result) int { return v.WrongCounts },
		},
		"nothing is recorded again": {
			reject,
			func(w *world) { w.freed = w.freed.Add(time.Hour) },
			func(v *result) int { return v.NotAgain },
		},
		"no call is turned away": {
			reject,
			func(w *world) {
				for id, c := range w.calls {
					if c.Refused {
						delete(w.calls, id)
					}
				}
			},
			func(v *result) int { return v.NeverFull },
		},
		"a late call is stored twice": {
			reject,
			func(w *world) { id := oracle.Kinds[10%len(oracle.Kinds)].ID(10); w.store(id, w.calls[id]) },
			func(v *result) int { return v.Duplicates },
		},
		"an entry is exported twice": {
			reject,
			func(w *world) { w.entries = append(w.entries, w.entries[4]) },
			func(v *result) int { return v.Duplicates },
		},
		"a late call stays unknown": {
			reject,
			func(w *world) { w.entries[11].Outcome, w.entries[11].Action.Status = "unknown", 0 },
			func(v *result) int { return v.WrongStatus },
		},
		"another status is stored": {
			pass,
			func(w *world) { w.entries[4].Action.Status = 299 },
			func(v *result) int { return v.WrongStatus },
		},
		"another project is stored": {
			pass,
			func(w *world) { w.entries[4].ProjectRef = "x" },
			func(v *result) int { return v.WrongFields },
		},
		"an entry of nobody's call": {
			pass,
			func(w *world) { w.store("nobody", w.calls[id]) },
			func(v *result) int { return v.Strangers },
		},
		"sequences are absent": {
			pass,
			func(w *world) { w.st.Head += 2; w.st.Stores[0].Position += 2 },
			func(v *result) int { return v.SequenceErrors },
		},
		"a call is refused, although it is to pass": {
			pass,
			func(w *world) {
				c := w.calls[away]
				c.Status, c.Refused, c.Reached = 503, true, false
				w.st.Calls.Passed--
				w.st.Calls.Refused++
			},
			func(v *result) int { return v.WronglyRefused * v.WrongCounts },
		},
		"a passed call is not counted": {
			pass,
			func(w *world) { w.st.Calls.Passed--; w.st.Calls.Seen-- },
			func(v *result) int { return v.WrongCounts },
		},
		"a passed call is in no gap": {
			pass,
			func(w *world) {
				e := last(w)
				e.Action.Metadata = []byte(strings.Replace(string(e.Action.Metadata), `"count":7`, `"count":6`, 1))
			},
			func(v *result) int { return v.WrongCounts },
		},
		"a stored call is counted as passed": {
			pass,
			func(w *world) {
				w.st.Calls.Passed++
				w.st.Calls.Recorded--
				e := last(w)
				e.Action.Metadata = []byte(strings.Replace(string(e.Action.Metadata), `"count":7`, `"count":8`, 1))
			},
			func(v *result) int { return v.WrongCounts },
		},
		"a call is lost and nothing says so": {
			pass,
			func(w *world) { drop(w, 4); w.st.Calls.Recorded--; w.st.Calls.Seen-- },
			func(v *result) int { return v.WrongCounts },
		},
		"a gap is not written down": {
			pass,
			func(w *world) { last(w).Action.Code = "audit.heartbeat" },
			func(v *result) int { return v.WrongCounts * v.PassedOutsideGaps },
		},
		"a gap tells of another time": {
			pass,
			func(w *world) {
				e := last(w)
				e.Action.Metadata = []byte(strings.Replace(string(e.Action.Metadata), `"since":"`+w.pressed.Add(13*time.Second).Format(time.RFC3339),
					`"since":"`+w.freed.Format(time.RFC3339), 1))
			},
			func(v *result) int { return v.PassedOutsideGaps },
		},
		"a call before is passed": {
			pass,
			func(w *world) {
				drop(w, 4)
				w.st.Calls.Recorded--
				w.st.Calls.Passed++
				w.gap("slow", 1, w.pressed, w.pressed)
			},
			func(v *result) int { return v.PassedOutsideGaps },
		},
		"a gap only knows the least": {
			pass,
			func(w *world) {
				e := last(w)
				e.Action.Metadata = []byte(strings.Replace(string(e.Action.Metadata), `"count"`, `"count_at_least"`, 1))
			},
			func(v *result) int { return v.WrongGaps * v.WrongCounts },
		},
		"a gap of another reason": {
			pass,
			func(w *world) {
				w.event("audit.gap").Action.Metadata = []byte(`{"reason":"damaged","from":3,"to":4}`)
			},
			func(v *result) int { return v.WrongGaps },
		},
		"a gap without metadata": {
			pass,
			func(w *world) { w.event("audit.gap") },
			func(v *result) int { return v.WrongGaps },
		},
		"a gap without cause": {
			pass,
			func(w *world) { w.gap("", 0, w.pressed, w.freed) },
			func(v *result) int { return v.WrongGaps },
		},
		"a call after is passed": {
			pass,
			func(w *world) {
				for i, e := range w.entries {
					if e.TargetID() == after {
						drop(w, i)
						break
					}
				}
				w.st.Calls.Recorded--
				w.st.Calls.Passed++
			},
			func(v *result) int { return v.WrongCounts * v.PassedOutsideGaps },
		},
	} {
		w := good(c.mode)
		c.plant(w)
		if v := judge(w); c.count(v) == 0 || v.held() {
			t.Errorf("%s: was not noticed: %+v", name, v)
		}
	}
}

// The shipped Caddyfile is what is changed line by line.
func TestTheShippedCaddyfileCanBeChanged(t *testing.T) {
	b, err := os.ReadFile("../../Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	full, err := caddyfile(string(b), pass, disk, "4MiB", "/mnt/d")
	for _, want := range []string{"\t\tbuffer /mnt/d/buffer {\n", "\t\t\ton_fault pass\n", "\t\t\tmin_free 4MiB\n", "\t\t\tsegment_size 4MiB\n", "max_size 8GiB"} {
		if err != nil || !strings.Contains(full, want) {
			t.Errorf("%q is missing: %v\n%s", want, err, full)
		}
	}
	own, err := caddyfile(string(b), reject, size, "", "")
	if err != nil || !strings.Contains(own, "\t\t\tmax_size 8MiB\n") || strings.Contains(own, "min_free") || !strings.Contains(own, "/buffer {") {
		t.Errorf("%v\n%s", err, own)
	}
	if _, err := caddyfile(":80\n", reject, size, "", ""); err == nil {
		t.Error("a Caddyfile without the lines can be changed")
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	ok := options{OnFault: reject, Cause: size, For: 1, Warm: 1, After: 1, Clients: 1, Disk: 16}
	for name, spoil := range map[string]func(*options){
		"mode":     func(o *options) { o.OnFault = "ignore" },
		"cause":    func(o *options) { o.Cause = "" },
		"duration": func(o *options) { o.For = 0 },
		"clients":  func(o *options) { o.Clients = 0 },
		"disk":     func(o *options) { o.Disk = 1 },
	} {
		o := ok
		spoil(&o)
		if _, err := diskfull(t.Context(), o, t.Output()); err == nil || !strings.HasPrefix(err.Error(), "reading the options: ") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
