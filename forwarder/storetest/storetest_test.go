package storetest

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func TestAStoreThatDoesAllOfItPasses(t *testing.T) {
	Run(t, (&once{}).target, Options{patience: 5 * time.Second})
}

// notOnce are the cases that a store which delivers at least once declares.
var notOnce = map[string]string{
	"a pruned entry does not come back":                                 "what is gone is gone",
	"a redacted text does not come back":                                "what is gone is gone",
	"Read yields each entry once, in its highest revision and in order": "it shows repeats",
	"each field of a query narrows":                                     "it shows repeats",
}

func TestAStoreThatShowsRepeatsPasses(t *testing.T) {
	Run(t, (&repeats{}).target, Options{NotApplicable: notOnce, patience: 5 * time.Second})
	t.Run("but those of what it has", func(t *testing.T) {
		o := Options{NotApplicable: notOnce, patience: 5 * time.Second, Repeats: RepeatsMayShow}
		Run(t, (&repeats{"leaves out what it has"}).target, o)
		Run(t, (&repeats{}).target, o) // it need not
	})
}

func TestAStoreThatKeepsRepeatsOutPasses(t *testing.T) {
	Run(t, (&keepsOut{}).target, Options{NotApplicable: notOnce, Repeats: RepeatsKeptOut, patience: 5 * time.Second})
}

// once, repeats and keepsOut make a new server for each case.
type (
	once     struct{ wrong string }
	repeats  struct{ wrong string }
	keepsOut struct{ wrong string }
)

func (o once) target(t testing.TB) *Target {
	return (&server{delivery: forwarder.DeliveryOnce, wrong: o.wrong}).target(t)
}

func (r repeats) target(t testing.TB) *Target {
	return (&server{delivery: forwarder.DeliveryAtLeastOnce, wrong: r.wrong}).target(t)
}

func (k keepsOut) target(t testing.TB) *Target {
	return (&server{delivery: forwarder.DeliveryAtLeastOnce, keepsOut: true, wrong: k.wrong}).target(t)
}

// mutants are stores that break the contract in one way, and the cases that must
// find it.
var mutants = []struct {
	wrong string
	found []string
}{
	{"drops one", []string{"a batch arrives whole, in order and byte by byte"}},
	{"swaps two", []string{"a batch arrives whole, in order and byte by byte"}},
	{"keeps the batch's memory", []string{"a batch arrives whole, in order and byte by byte"}},
	{"changes the entry", []string{"a batch arrives whole, in order and byte by byte"}},
	{"changes the JSON", []string{"a batch arrives whole, in order and byte by byte"}},
	{"leaks a goroutine", []string{"a batch arrives whole, in order and byte by byte"}},
	{"hangs in Close", []string{"a batch arrives whole, in order and byte by byte"}},
	{"stores a repeat again", []string{"a repeated batch changes nothing, or shows as a repeat", "a connection that is reset in the middle of a batch costs nothing"}},
	{"takes the first thousand", []string{"many batches keep their order"}},
	{"takes another sequence for another entry", []string{"a repeated batch changes nothing, or shows as a repeat"}},
	{"fails on a repeat", []string{"a repeated batch changes nothing, or shows as a repeat", "a part that is there already does no harm"}},
	{"lets the last revision win", []string{"the highest revision wins, in any order"}},
	{"lets the last revision of a batch win", []string{"the highest revision wins, in any order"}},
	{"lets the first revision win", []string{"the highest revision wins, in any order"}},
	{"loses a row when it is closed", []string{"a restart loses nothing and repeats nothing"}},
	{"stores the last row again at a start", []string{"a restart loses nothing and repeats nothing"}},
	{"cuts what is long", []string{"an entry of 1 MiB arrives whole"}},
	{"takes U+0000 away", []string{"every character arrives as it was written", "JSON arrives as it was encoded"}},
	{"composes characters", []string{"every character arrives as it was written"}},
	{"encodes numbers again", []string{"JSON arrives as it was encoded"}},
	{"encodes the entry again", []string{"JSON arrives as it was encoded"}},
	{"panics without a target", []string{"an entry with nothing known and one with everything arrive"}},
	{"knows no token scope", []string{"an entry with nothing known and one with everything arrive"}},
	{"does not say that it refused", []string{"a refused entry is told from its neighbours"}},
	{"skips what is refused", []string{"a refused entry is told from its neighbours"}},
	{"does not say that it refused everything", []string{"a destination that refuses everything says so of each entry"}},
	{"says refused when it is down", []string{"a store that is down refuses nothing, and goes on when it is back"}},
	{"acknowledges when it is down", []string{"a store that is down refuses nothing, and goes on when it is back"}},
	{"stays broken once it was down", []string{"a store that is down refuses nothing, and goes on when it is back"}},
	{"refuses to be opened while it is down", []string{"a store that is opened while it is down goes on when it is up"}},
	{"has no memory of being mended", []string{"a store that is opened while it is down goes on when it is up"}},
	{"does not recover from a slow answer", []string{"a slow destination is waited for"}},
	{"acknowledges what takes long", []string{"a slow destination is waited for", "a context that ends lets Write return"}},
	{"acknowledges half of a batch", []string{"a connection that is reset in the middle of a batch costs nothing"}},
	{"says refused when it is cut off", []string{"a connection that is reset in the middle of a batch costs nothing"}},
	{"heeds no context", []string{"a context that ends lets Write return"}},
	{"says refused when its context ends", []string{"a context that ends lets Write return"}},
	{"panics when it was closed", []string{"closing during a write returns and loses nothing that was acknowledged"}},
	{"cannot be read during a write", []string{"Describe and Read may be called during a write"}},
	{"tells entries apart by their sequence alone", []string{"two instances in one store keep apart"}},
	{"describes itself with its credential", []string{"what a store says of itself is the same at all times, and no secret"}},
	{"describes itself otherwise while it is down", []string{"what a store says of itself is the same at all times, and no secret"}},
	{"describes itself without a location", []string{"what a store says of itself is the same at all times, and no secret"}},
	{"leaks a credential into an error", []string{"no error and no line of the log holds a credential"}},
	{"leaks a credential into an error of Open", []string{"no error and no line of the log holds a credential"}},
	{"leaks a credential into the log", []string{"no error and no line of the log holds a credential"}},
	{"brings back what was pruned", []string{"a pruned entry does not come back"}},
	{"brings back what was redacted", []string{"a redacted text does not come back"}},
	{"reads the oldest first, always", []string{"Read yields each entry once, in its highest revision and in order"}},
	{"ignores the limit", []string{"Read yields each entry once, in its highest revision and in order"}},
	{"selects no user", []string{"each field of a query narrows"}},
	{"takes To for included", []string{"each field of a query narrows"}},
	{"ignores other tokens", []string{"each field of a query narrows"}},
	{"shows everybody's", []string{"each field of a query narrows"}},
	{"tells members by filters what they do not see", []string{"each field of a query narrows"}},
	{"takes calls for events", []string{"each field of a query narrows"}},
	{"filters by no network", []string{"each field of a query narrows"}},
	{"finds no text", []string{"each field of a query narrows"}},
	{"goes on at the last one again", []string{"each field of a query narrows"}},
	{"makes Attempts of Briefs", []string{"each field of a query narrows"}},
	{"takes the first sign of life for the last", []string{"each field of a query narrows"}},
	{"takes a call for a sign of life", []string{"each field of a query narrows"}},
	{"holds its lock while it is read", []string{"a reader that stops halfway delays no write"}},
	{"counts only the revisions that win", []string{"Received and Missing are what arrived"}},
	{"merges no ranges", []string{"Received and Missing are what arrived"}},
	{"knows only the newest sequence", []string{"Highest is the highest sequence that was taken"}},
	{"takes all instances for one", []string{"Highest is the highest sequence that was taken"}},
}

// repeatMutants are the same for stores that show repeats.
var repeatMutants = []struct {
	wrong string
	found []string
}{
	{"drops one", []string{"a batch arrives whole, in order and byte by byte"}},
	{"swaps two", []string{"a batch arrives whole, in order and byte by byte"}},
	{"puts the newest batch first", []string{"many batches keep their order", "a restart loses nothing and repeats nothing"}},
	{"stores only what is new at the end", []string{"a part that is there already does no harm", "the highest revision wins, in any order"}},
	{"stores the last row again at a start", []string{"a restart loses nothing and repeats nothing"}},
	{"acknowledges half of a batch", []string{"a connection that is reset in the middle of a batch costs nothing"}},
	{"loses a row when it is closed", []string{"closing during a write returns and loses nothing that was acknowledged"}},
	{"skips what is refused", []string{"a refused entry is told from its neighbours"}},
}

// keepsOutMutants are the same for stores that keep repeats out.
var keepsOutMutants = []struct {
	wrong string
	found []string
}{
	{"drops one", []string{"a batch arrives whole, in order and byte by byte"}},
	{"swaps two", []string{"a batch arrives whole, in order and byte by byte"}},
	{"stores a repeat again", []string{"a repeated batch changes nothing, or shows as a repeat", "a part that is there already does no harm"}},
	{"takes a revision for a repeat", []string{"the highest revision wins, in any order"}},
	{"stores only what is new at the end", []string{"the highest revision wins, in any order"}},
	{"stores the last row again at a start", []string{"a restart loses nothing and repeats nothing"}},
	{"acknowledges half of a batch", []string{"a connection that is reset in the middle of a batch costs nothing"}},
	{"loses a row when it is closed", []string{"closing during a write returns and loses nothing that was acknowledged"}},
	{"skips what is refused", []string{"a refused entry is told from its neighbours"}},
}

func TestEachCaseFindsAStoreThatBreaksIt(t *testing.T) {
	finds := map[string]bool{}
	for _, m := range mutants {
		for _, name := range m.found {
			finds[name] = true
			mustFind(t, m.wrong, name, once{m.wrong}.target, Options{})
		}
	}
	for _, m := range repeatMutants {
		for _, name := range m.found {
			finds[name] = true
			mustFind(t, m.wrong, name, repeats{m.wrong}.target, Options{})
			if name != "a part that is there already does no harm" { // which then may be left out
				mustFind(t, m.wrong, name, repeats{m.wrong}.target, Options{Repeats: RepeatsMayShow})
			}
		}
	}
	for _, m := range keepsOutMutants {
		for _, name := range m.found {
			finds[name] = true
			mustFind(t, m.wrong, name, keepsOut{m.wrong}.target, Options{Repeats: RepeatsKeptOut})
		}
	}
	mustFind(t, "leaves out what it has", "a part that is there already does no harm", repeats{"leaves out what it has"}.target, Options{})
	for _, c := range cases {
		if !finds[c.name] {
			t.Errorf("case %q finds nothing: break a store so that it does", c.name)
		}
	}
}

// mustFind runs one case against a store that is wrong.
func mustFind(t *testing.T, wrong, name string, target func(testing.TB) *Target, o Options) {
	t.Run(wrong+": "+name, func(t *testing.T) {
		i := slices.IndexFunc(cases, func(c testCase) bool { return c.name == name })
		if i < 0 {
			t.Fatalf("there is no case %q", name)
		}
		o.patience = time.Second
		n := &note{TB: t}
		n.run(func() { cases[i].try(n, target, o) })
		if !n.Failed() {
			t.Errorf("a store that %s passes", wrong)
		}
		if strings.HasPrefix(n.String(), leftBehind) != (wrong == "leaks a goroutine") {
			t.Errorf("a store that %s is found for another reason", wrong)
		}
		if s := n.String(); strings.Contains(s, secret) {
			t.Errorf("the suite itself shows the credential: %s", s)
		}
		t.Logf("%.300s", n)
	})
}

func TestACaseThatDoesNotExistOrHasNoReasonIsRefused(t *testing.T) {
	for _, o := range []Options{
		{NotApplicable: map[string]string{"a batch arives whole": "it is misspelt"}},
		{NotApplicable: map[string]string{cases[0].name: ""}},
	} {
		if o.check() == nil {
			t.Errorf("%v is taken", o.NotApplicable)
		}
	}
}

func TestACaseThatNeedsAHookFailsWithoutIt(t *testing.T) {
	without := func(t testing.TB) *Target {
		full := once{}.target(t)
		return &Target{Opener: full.Opener, Documents: full.Documents}
	}
	failed := map[string]bool{}
	for _, c := range slices.Concat(refusalCases, outageCases, stopCases, secretCases, retentionCases, readCases) {
		n := &note{TB: t}
		n.run(func() { c.try(n, without, Options{patience: 5 * time.Second}) })
		if n.Failed() {
			failed[c.name] = true
			if !strings.Contains(n.String(), "NotApplicable") {
				t.Errorf("case %q does not say what to do: %s", c.name, n)
			}
		}
	}
	if len(failed) != 10 {
		t.Errorf("%d cases fail without hooks: %v", len(failed), slices.Sorted(maps.Keys(failed)))
	}
}

func TestCaseNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range cases {
		if seen[c.name] {
			t.Errorf("there are two cases %q", c.name)
		}
		seen[c.name] = true
	}
}

// note is a testing.TB that takes note of a failure and does not fail.
type note struct {
	testing.TB
	mu       sync.Mutex
	failed   bool
	messages []string
	cleanups []func()
}

// run runs a test and what it wants to have cleaned up.
func (n *note) run(f func()) {
	n.alone(f)
	for len(n.cleanups) > 0 {
		last := n.cleanups[len(n.cleanups)-1]
		n.cleanups = n.cleanups[:len(n.cleanups)-1]
		n.alone(last)
	}
}

// alone runs f so that FailNow ends nothing else.
func (n *note) alone(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

func (n *note) Cleanup(f func()) { n.cleanups = append(n.cleanups, f) }

func (n *note) Failed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.failed
}

func (n *note) FailNow() {
	n.mu.Lock()
	n.failed = true
	n.mu.Unlock()
	runtime.Goexit()
}

func (n *note) Errorf(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failed = true
	n.messages = append(n.messages, fmt.Sprintf(format, args...))
}

func (n *note) Error(args ...any)                 { n.Errorf("%s", fmt.Sprint(args...)) }
func (n *note) Fatal(args ...any)                 { n.Error(args...); n.FailNow() }
func (n *note) Fatalf(format string, args ...any) { n.Errorf(format, args...); n.FailNow() }

func (n *note) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.messages, "\n")
}
