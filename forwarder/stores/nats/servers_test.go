//go:build servers

package natsstore

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/storetest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/natstest"
)

// startCluster starts servers as processes of their own.
func startCluster(t testing.TB, n int, extra string) *natstest.Cluster {
	t.Helper()
	c, err := natstest.Start(context.Background(), n, extra)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// clusterMessages are what the streams have, read by NATS's own means. A question that
// comes while a leader changes is never answered, so it is asked again.
func clusterMessages(c *natstest.Cluster) (all []stored, err error) {
	for range 4 {
		err = c.With(func(_ *nats.Conn, js jetstream.JetStream) error {
			var err error
			all, err = messages(js)
			return err
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			break
		}
	}
	return all, err
}

// TestTheStoreKeepsItsContractOnACluster runs the suite against three servers and three
// replicas, with nothing in between: what needs a proxy is tried on one server.
func TestTheStoreKeepsItsContractOnACluster(t *testing.T) {
	const proxied = "this needs a proxy: it is tried with one server, without the tag servers"
	o := contractOptions()
	for _, name := range []string{
		"a refused entry is told from its neighbours",
		"a destination that refuses everything says so of each entry",
		"a slow destination is waited for",
		"a connection that is reset in the middle of a batch costs nothing",
		"a context that ends lets Write return",
	} {
		o.NotApplicable[name] = proxied
	}
	o.NotApplicable["no error and no line of the log holds a credential"] = "these servers ask for none: it is tried with one that does"
	o.Lasting = []string{natstest.Waiter}
	c := startCluster(t, 3, "")
	storetest.Run(t, func(t testing.TB) *storetest.Target {
		// One cluster for all cases: each finds it empty.
		if err := c.With(func(_ *nats.Conn, js jetstream.JetStream) error {
			names := js.StreamNames(context.Background())
			var all []string
			for name := range names.Name() {
				all = append(all, name)
			}
			for _, name := range all {
				if err := js.DeleteStream(context.Background(), name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
					return err
				}
			}
			return names.Err()
		}); err != nil {
			t.Fatal(err)
		}
		m := &Module{Servers: c.URLs()}
		provision(t, m)
		return &storetest.Target{
			Opener: m,
			Documents: func() (docs [][]byte, err error) {
				all, err := clusterMessages(c)
				for _, m := range all {
					docs = append(docs, m.data)
				}
				return docs, err
			},
			// All of them: a leader that is left alone for a moment still acknowledges repeats,
			// as it may. Without a quorum is a test of its own.
			Break: func() func() {
				for i := range 3 {
					if err := c.Kill(i); err != nil {
						t.Error(err)
					}
				}
				return func() {
					for i := range 3 {
						if err := c.Up(i); err != nil {
							t.Error(err)
						}
					}
					if err := c.Ready(context.Background()); err != nil {
						t.Error(err)
					}
				}
			},
		}
	}, o)
}

// TestEachServerKilledInTurnUnderWritesLosesNothing writes all the time while servers get
// SIGKILL, the leader among them.
func TestEachServerKilledInTurnUnderWritesLosesNothing(t *testing.T) {
	c := startCluster(t, 3, "")
	st := open(t, Config{Servers: c.URLs(), Timeout: 5 * time.Second}, nil)
	var stop atomic.Bool
	acknowledged, failures := make(chan int, 1), 0
	go func() {
		n := 0
		defer func() { acknowledged <- n }()
		for !stop.Load() {
			batch := records(t, n+1, n+40)
			err := st.Write(context.Background(), batch)
			switch {
			case err == nil:
				n += 40
			case isRefused(err):
				t.Errorf("refused: %v", err)
				return
			default:
				failures++
				time.Sleep(50 * time.Millisecond)
			}
		}
	}()
	for i := range 6 {
		victim := i % 3
		if leader, err := c.Leader(t.Context(), "AUDIT_default"); err == nil && i%2 == 1 {
			victim = leader
		}
		time.Sleep(500 * time.Millisecond)
		if err := c.Kill(victim); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := c.Up(victim); err != nil {
			t.Fatal(err)
		}
		if err := c.Settled(t.Context(), "AUDIT_default"); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	n := <-acknowledged
	deliver(t, st, records(t, n+1, n+40))
	all, err := clusterMessages(c)
	if err != nil {
		t.Fatal(err)
	}
	overtaken := eachOnce(t, all, n+40)
	if failures == 0 {
		t.Error("no write failed, so that nothing was shown")
	}
	t.Logf("%d entries, %d writes failed, %d entries came behind a later one", n+40, failures, overtaken)
}

// TestWithoutAQuorumNothingIsAcknowledged kills two of three, with different ones left.
func TestWithoutAQuorumNothingIsAcknowledged(t *testing.T) {
	c := startCluster(t, 3, "")
	st := open(t, Config{Servers: c.URLs(), Timeout: 2 * time.Second}, nil)
	n := 0
	for left := range 3 {
		deliver(t, st, records(t, n+1, n+10)) // it may still choose its leader
		for i := range 3 {
			if i != left {
				if err := c.Kill(i); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range 3 {
			if err := st.Write(t.Context(), records(t, n+11, n+20)); err == nil || isRefused(err) {
				t.Fatalf("without a quorum: %v", err)
			}
			time.Sleep(200 * time.Millisecond)
		}
		for i := range 3 {
			if err := c.Up(i); err != nil {
				t.Fatal(err)
			}
		}
		deliver(t, st, records(t, n+11, n+20))
		n += 20
	}
	all, err := clusterMessages(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d entries came behind a later one", eachOnce(t, all, n), n)
}

// eachOnce looks for entries that are missing, or there more than once, and counts those
// that others came before. Their order is not promised: it is lost when a leader goes while
// a batch is under way.
func eachOnce(t *testing.T, all []stored, n int) (overtaken int) {
	t.Helper()
	seen, last := make([]int, n+1), 0
	for _, m := range all {
		at, err := strconv.Atoi(m.header.Get(headerSequence))
		if err != nil || at < 1 || at > n {
			t.Fatalf("there is an entry %q of %d: %v", m.header.Get(headerSequence), n, err)
		}
		seen[at]++
		if at < last {
			overtaken++
		}
		last = max(last, at)
	}
	for i := 1; i <= n; i++ {
		if seen[i] != 1 {
			t.Errorf("entry %d is there %d times", i, seen[i])
		}
	}
	return overtaken
}

// TestAServerThatSyncsEachMessageIsSurvivedAlone is one server with sync_interval always,
// killed in the middle of batches.
func TestAServerThatSyncsEachMessageIsSurvivedAlone(t *testing.T) {
	c := startCluster(t, 1, "sync_interval: always")
	st := open(t, Config{Servers: c.URLs(), Replicas: 1, Timeout: 5 * time.Second}, nil)
	n := 0
	for range 4 {
		killed := make(chan error, 1)
		time.AfterFunc(30*time.Millisecond, func() { killed <- c.Kill(0) })
		for st.Write(t.Context(), records(t, n+1, n+100)) == nil {
			n += 100
		}
		if err := <-killed; err != nil {
			t.Fatal(err)
		}
		if err := c.Up(0); err != nil {
			t.Fatal(err)
		}
		deliver(t, st, records(t, n+1, n+100))
		n += 100
	}
	all, err := clusterMessages(c)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != n {
		t.Errorf("%d messages, want %d", len(all), n)
	}
}

func TestStoresThatStartAtOnceOnAClusterAllSucceed(t *testing.T) {
	c := startCluster(t, 3, "")
	results := make(chan error, 4)
	for i := range 4 {
		go func() {
			st, err := Open(context.Background(), Config{Servers: c.URLs(), DuplicateWindow: time.Duration(1+i) * time.Minute, Timeout: 5 * time.Second}, nil)
			if err == nil {
				// The stream may change its leader once more, as one that is new does.
				for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
					err = st.Write(context.Background(), records(t, 10*i+1, 10*i+10))
					if err == nil || time.Now().After(deadline) {
						break
					}
				}
				if closeErr := st.Close(); err == nil {
					err = closeErr
				}
			}
			results <- err
		}()
	}
	for range 4 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}
