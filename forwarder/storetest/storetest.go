// Package storetest is what every audit store must pass: the contract of
// forwarder.Store, as cases. docs/writing-a-store.md has it in words.
//
// A store's own test makes a Target, which is an empty destination with its real
// server, and calls Run. The suite plays the forwarder: it writes batches, repeats
// them, takes the server away and brings it back, and compares what a reader of the
// destination finds with what the store has acknowledged.
package storetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Target is one empty destination with its server, made for one case. What it
// starts it ends by t.Cleanup, which comes after the store is closed and before the
// suite looks for goroutines that were left behind.
//
// A hook that is nil is a fault that cannot happen to this destination. The cases
// that need it are then named in Options.NotApplicable.
type Target struct {
	// Opener is the store's configuration, with all that a user would set. It is
	// opened again after each Close, as at a restart.
	Opener forwarder.Opener
	// Credentials are the secrets in that configuration, as they are and in each
	// form that they are sent in, such as the base64 of Basic. The suite looks for
	// them in all that the store says. Each should be long enough to be found
	// nowhere by chance.
	Credentials []string

	// Documents returns what a reader of the destination finds: the JSON of the
	// records, byte by byte. A store that delivers once has one for each entry, in
	// its highest revision, by arrival and then id. All others have each that
	// arrived, repeats too, as they arrived. It is called while no Write is under
	// way and the server is up; the store may be open or closed.
	Documents func() ([][]byte, error)

	// Refuse makes the destination refuse for what is in it, and for good, each
	// entry whose JSON contains the text, and with it the batch that it is in. The
	// empty text is in every entry. It holds until accept is called.
	Refuse func(text string) (accept func())
	// Break takes the server away until mend is called, which returns when it is
	// up again with all that it had.
	Break func() (mend func())
	// Slow makes the destination take that much longer over the next batch. It
	// ends when fast is called, also for a batch that is waiting.
	Slow func(d time.Duration) (fast func())
	// Cut resets the connection in the middle of the next batch, once. Any part of
	// it may be stored.
	Cut func()

	// Prune does what retention does at this destination to the entries of these
	// ids: they are gone from Documents afterwards.
	Prune func(ids ...string) error
	// Redact does what an erasure does at this destination: takes the text away
	// from the entry of this id.
	Redact func(id, text string) error
}

// Repeats is what a reader of the destination sees of a repeat.
type Repeats int

const (
	// RepeatsShow is what a destination does that takes all that comes.
	RepeatsShow Repeats = iota
	// RepeatsMayShow is a store that leaves out what is there already byte by byte,
	// under the same sequence, when it notices.
	RepeatsMayShow
	// RepeatsKeptOut is a destination that keeps a repeat of (id, revision) out, though
	// not for ever: longer than a case takes. What is there comes no second time, also
	// where its sequence is another.
	RepeatsKeptOut
)

// Options say what is different about a store. The zero value is a store to which
// all cases apply.
type Options struct {
	// NotApplicable has the cases that cannot apply to the store, by name, and why.
	// They are not run, and the table says so.
	NotApplicable map[string]string
	// Repeats says what becomes of a repeat where delivery is not once.
	Repeats Repeats
	// Lasting are functions, as in "example.com/pkg.(*T).loop", whose goroutines
	// outlive their store because a library keeps them for the whole process.
	Lasting []string

	// patience is how long anything may take before it counts as hanging.
	patience time.Duration
}

// defaultPatience is long, since it passes only where something hangs.
const defaultPatience = time.Minute

// Run runs each case as a subtest, with a target of its own, and logs a table of
// them. It fails for a case in NotApplicable that does not exist or has no reason.
func Run(t *testing.T, target func(t testing.TB) *Target, o Options) {
	if o.patience == 0 {
		o.patience = defaultPatience
	}
	if err := o.check(); err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	width := 0
	for _, c := range cases {
		width = max(width, len(c.name))
	}
	for _, c := range cases {
		result := "declared: " + o.NotApplicable[c.name]
		if _, declared := o.NotApplicable[c.name]; !declared {
			result = "FAIL"
			if t.Run(c.name, func(t *testing.T) { c.try(t, target, o) }) {
				result = "pass"
			}
		}
		fmt.Fprintf(&table, "\n%-*s  %s", width, c.name, result)
	}
	t.Log(table.String())
}

// check refuses what NotApplicable cannot mean.
func (o *Options) check() error {
	for _, name := range slices.Sorted(maps.Keys(o.NotApplicable)) {
		if !slices.ContainsFunc(cases, func(c testCase) bool { return c.name == name }) {
			return fmt.Errorf("reading NotApplicable: there is no case %q: see the table of go test -v for their names", name)
		}
		if o.NotApplicable[name] == "" {
			return fmt.Errorf("reading NotApplicable: case %q has no reason: say why it cannot apply", name)
		}
	}
	return nil
}
