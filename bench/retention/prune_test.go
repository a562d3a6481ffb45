//go:build unix

package retention

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/postgres"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/sqlite"
	"github.com/caddy-audit-log/caddy-audit-log/internal/pgtest"
)

// The size of the trial. The whole one is
//
//	go test ./bench/retention -run Pruning -v -timeout 60m -rows 1000000 -beside 30s -batch 100
var (
	flagBatch  = flag.Int("batch", 20, "how many entries are written each tenth of a second beside pruning; the race detector has room for few")
	flagRows   = flag.Int("rows", 2000, "how many entries expire while others are written and read")
	flagBeside = flag.Duration("beside", time.Second, "for how long others are written and read before that")
)

const (
	// What is to expire does so when all of it is there: after spare times as long as a
	// trial of fillTrial entries says that it takes, and fillRest, since a disk that
	// others use at the same time pauses for seconds.
	fillTrial  = 500
	spare      = 4
	fillRest   = 10 * time.Second
	writeEvery = 100 * time.Millisecond
	// long is what nobody should wait for.
	long = 50 * time.Millisecond
)

// latencies are of one kind of operation.
type latencies struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, d)
}

// take says what there was, and begins anew.
func (l *latencies) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	if len(all) == 0 {
		return "none"
	}
	slices.Sort(all)
	above := 0
	for _, d := range all {
		if d > long {
			above++
		}
	}
	return fmt.Sprintf("%d, median %s, 99 %% %s, slowest %s, %d above %s", len(all), all[len(all)/2].Round(10*time.Microsecond),
		all[len(all)*99/100].Round(10*time.Microsecond), all[len(all)-1].Round(10*time.Microsecond), above, long)
}

// readableKeeper is both.
type readableKeeper interface {
	forwarder.Keeper
	forwarder.Reader
}

// TestPruningBesideWritingAndReading has many entries expire at once while 1,000 a second
// are written and the newest page is read, and prints how long those took. A time is not
// asserted; that nothing else is deleted, and nothing lost, is.
func TestPruningBesideWritingAndReading(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		besideTheOther(t)
		s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "audit.db")}, nil)
		if err != nil {
			t.Fatal(err)
		}
		pruneBeside(t, s)
	})
	t.Run("postgres", func(t *testing.T) {
		besideTheOther(t)
		server, err := pgtest.Start(nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		})
		s, err := postgres.Open(t.Context(), postgres.Config{DSN: func() (string, error) { return server.DSN(nil), nil }}, nil)
		if err != nil {
			t.Fatal(err)
		}
		pruneBeside(t, s)
	})
}

// besideTheOther lets a short trial, which waits more than it does, run beside the other
// store's. A longer one is measured alone.
func besideTheOther(t *testing.T) {
	if *flagRows <= 10_000 {
		t.Parallel()
	}
}

func pruneBeside(t *testing.T, store readableKeeper) {
	t.Helper()
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	rows := *flagRows
	next := 0
	batch := func(n int, class string, until time.Time) {
		t.Helper()
		var records []forwarder.Record
		for range n {
			next++
			records = append(records, recordOf(t, next, class, until))
		}
		if err := store.Write(context.Background(), records); err != nil {
			t.Error(err)
		}
	}
	batch(1, "short", time.Time{}) // so that PostgreSQL cannot drop all of it at once, which is quick
	begin := time.Now()
	batch(fillTrial, "long", time.Time{})
	expires := time.Now().Add(spare*time.Since(begin)*time.Duration(rows)/fillTrial + fillRest)
	for first := next; next < first+rows; {
		batch(min(5000, first+rows-next), "short", expires)
	}
	if time.Now().After(expires) {
		t.Fatalf("filling a store with %d entries took %s, %d times as long as the trial said: nothing is shown; run it on a quieter disk",
			rows, time.Since(begin).Round(time.Second), spare)
	}

	ctx, stop := context.WithCancel(t.Context())
	var beside sync.WaitGroup
	var writes, reads latencies
	beside.Go(func() {
		tick := time.NewTicker(writeEvery)
		defer tick.Stop()
		for ctx.Err() == nil {
			begun := time.Now()
			batch(*flagBatch, "long", time.Time{})
			writes.add(time.Since(begun))
			<-tick.C
		}
	})
	beside.Go(func() {
		for ctx.Err() == nil {
			begun := time.Now()
			for _, err := range store.Read(context.Background(), forwarder.Query{NewestFirst: true, Limit: 50}) {
				if err != nil {
					t.Error(err)
				}
			}
			reads.add(time.Since(begun))
			time.Sleep(writeEvery / 2)
		}
	})
	time.Sleep(max(*flagBeside, time.Until(expires)))
	t.Logf("before: writes %s; reads %s", writes.take(), reads.take())

	var deleted, steps atomic.Int64
	done := make(chan struct{})
	k := forwarder.NewKeeping("s", func(do func(forwarder.Keeper) error) error { return do(store) }, forwarder.KeepingOptions{
		// No class is short any more: what was said when it was stored counts.
		Keep: new(audit.Keep), LookEvery: 10 * time.Millisecond, Every: time.Hour,
		OnPruned: func(p forwarder.Pruned) {
			steps.Add(1)
			for _, c := range p.Deleted {
				deleted.Add(c.Entries)
			}
			if !p.More {
				close(done)
			}
		},
	})
	begun := time.Now()
	beside.Go(func() { k.Run(ctx) })
	<-done
	t.Logf("while %d expired, in %d steps and %s: writes %s; reads %s", deleted.Load(), steps.Load(), time.Since(begun).Round(time.Millisecond),
		writes.take(), reads.take())
	time.Sleep(*flagBeside)
	t.Logf("after: writes %s; reads %s", writes.take(), reads.take())
	stop()
	beside.Wait()

	if deleted.Load() != int64(rows) {
		t.Errorf("%d entries were deleted, want %d", deleted.Load(), rows)
	}
	lost, err := store.Lost(context.Background())
	if err != nil || len(lost) > 0 {
		t.Errorf("lost %v, %v", lost, err)
	}
	classes, err := store.Classes(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	left := int64(0)
	for _, c := range classes {
		left += c.Entries
	}
	if left != int64(next-rows) {
		t.Errorf("%d entries are left, want %d", left, next-rows)
	}
}

// recordOf is an entry of about 900 bytes that is kept until then; forever, if that is
// zero.
func recordOf(t *testing.T, n int, class string, until time.Time) forwarder.Record {
	t.Helper()
	e := &audit.Entry{
		ID: audit.NewID(), Revision: audit.RevisionAnswer, Timestamp: time.Now().UnixMicro(), SchemaVersion: audit.SchemaVersion,
		RequestID: fmt.Sprintf("request-%032d", n), OrganizationSlug: slug(n % 100), ProjectRef: refOf(n % 300),
		Action: audit.Action{
			Code: "v1-update-function", Name: "Update a function", Method: "PATCH", Route: "/v1/projects/{ref}/functions/{slug}",
			Path: "/v1/projects/" + refOf(n%300) + "/functions/hello", Host: "api.example.com", Status: 200, StatusSource: audit.StatusWritten,
		},
		Actor: audit.Actor{
			TokenType: audit.TokenJWT, TokenHash: fmt.Sprintf("%064x", n%9973), Verification: audit.VerificationSignature,
			UserID: fmt.Sprintf("user-%d", n%997), SessionID: fmt.Sprintf("session-%d", n%4999), IP: fmt.Sprintf("203.0.113.%d", n%251), IPSource: audit.IPPeer,
		},
		Outcome: audit.OutcomeSuccess, Policy: audit.Policy{Rule: "default", Level: audit.LevelMetadata, Durability: audit.DurabilityStrict},
		Origin: &audit.Origin{Instance: "0198c0de-0000-7000-8000-000000000008", Sequence: uint64(n)},
	}
	doc, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r := forwarder.Record{Sequence: uint64(n), Entry: e, JSON: doc, Stamp: &audit.Stamp{Retention: &audit.Retention{Class: class}}}
	if !until.IsZero() {
		r.Stamp.Retention.KeepUntil = until.UnixMicro()
	}
	return r
}
