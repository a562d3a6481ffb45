package syslogstore

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/storetest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// notApplicable is what nothing that speaks syslog can do.
func notApplicable() map[string]string {
	const (
		unread = "what a receiver has taken is its own: this store neither reads nor changes it"
		mute   = "a syslog receiver says nothing: it cannot refuse an entry. What is larger than max_message is refused by this store, which has a test of its own"
	)
	return map[string]string{
		"a refused entry is told from its neighbours":                       mute,
		"a destination that refuses everything says so of each entry":       mute,
		"a pruned entry does not come back":                                 unread,
		"a redacted text does not come back":                                unread,
		"Read yields each entry once, in its highest revision and in order": unread,
		"each field of a query narrows":                                     unread,
		"a reader that stops halfway delays no write":                       unread,
		"Received and Missing are what arrived":                             unread,
		"Highest is the highest sequence that was taken":                    unread,
	}
}

// The receiver is one inside of this process; see servers_test.go for real ones.
func TestTheStoreKeepsItsContractWithAReceiverInThisProcess(t *testing.T) {
	storetest.Run(t, func(t testing.TB) *storetest.Target {
		f := newFiles(t)
		r := newReceiver(t, "tcp", ports.ForTest(t), f.serverConfig)
		return contractTarget(t, f, other{
			addr: r.addr, arrivals: r.arrivals, down: func() { r.stop() }, up: r.start, hold: r.hold, probation: 20 * time.Millisecond,
		})
	}, storetest.Options{NotApplicable: notApplicable()})
}

// other is the other side of a store, whatever it is.
type other struct {
	addr     string
	arrivals func() ([]arrival, error)
	down, up func()
	// hold lets it read nothing for a time.
	hold      func(d time.Duration) (letGo func())
	probation time.Duration
}

func contractTarget(t testing.TB, f files, o other) *storetest.Target {
	w := newWire(t, o.addr)
	m := &Module{URL: "tls://" + w.addr(), MaxMessage: 8 << 20, TLS: TLS{CA: f.ca, Certificate: f.cert, Key: f.key}}
	provision(t, m)
	j := &journal{again: map[string]int{}, acked: map[string]int{}}
	m.config.probation, m.config.wrote = o.probation, j.wrote
	return &storetest.Target{
		Opener:      &watched{m, j},
		Credentials: []string{f.keyText},
		Documents: func() ([][]byte, error) {
			return j.documents(t, w, o.arrivals)
		},
		Break: func() func() {
			o.down()
			w.drop()
			return o.up
		},
		Slow: o.hold,
		Cut:  func() { w.cutAfter(40_000) },
	}
}

// watched is a store of which is noted what it has acknowledged.
type watched struct {
	*Module
	journal *journal
}

func (w *watched) Open(ctx context.Context, log *slog.Logger) (forwarder.Store, error) {
	s, err := w.Module.Open(ctx, log)
	if err != nil {
		return nil, err
	}
	return &watchedStore{s, w.journal}, nil
}

type watchedStore struct {
	forwarder.Store
	journal *journal
}

func (w *watchedStore) Write(ctx context.Context, batch []forwarder.Record) error {
	docs := documents(batch)
	err := w.Store.Write(ctx, batch)
	if err == nil {
		w.journal.mu.Lock()
		defer w.journal.mu.Unlock()
		for _, doc := range docs {
			w.journal.acked[doc]++
		}
	}
	return err
}

// journal is what is known of one case's writes.
type journal struct {
	mu sync.Mutex
	// again is how many messages were written again at the beginning of each connection,
	// by the store's address.
	again map[string]int
	acked map[string]int
}

func (j *journal) wrote(local string, again int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.again[local] = again
}

// documents are what arrived, but for what the store wrote again and the receiver had:
// reconnecting repeats by design, and what the suite does not know of. How many these are
// is logged. They must be the bytes that came before.
//
// A receiver takes its time, so it is waited until all that was acknowledged is there.
func (j *journal) documents(t testing.TB, w *wire, arrivals func() ([]arrival, error)) (docs [][]byte, err error) {
	var all []arrival
	still := 0
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline) && still < 5; time.Sleep(10 * time.Millisecond) {
		before := len(all)
		if all, err = arrivals(); err != nil {
			return nil, err
		}
		if len(all) == before && j.complete(all) {
			still++
		} else {
			still = 0
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	seen, count, repeats := map[string]bool{}, map[string]int{}, 0
	for _, a := range all {
		from := w.storeOf(a.from)
		n := count[from]
		count[from]++
		if n < j.again[from] && seen[string(a.msg)] {
			repeats++
			continue
		}
		seen[string(a.msg)] = true
		docs = append(docs, a.msg)
	}
	if repeats > 0 {
		t.Logf("%d messages are repeats by reconnecting", repeats)
	}
	return docs, nil
}

// complete says whether all that was acknowledged has arrived.
func (j *journal) complete(all []arrival) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	missing := maps.Clone(j.acked)
	for _, a := range all {
		missing[string(a.msg)]--
	}
	for _, n := range missing {
		if n > 0 {
			return false
		}
	}
	return true
}
