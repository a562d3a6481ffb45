package syslogstore

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// pipes are connections in memory, for time that does not pass by itself.
type pipes struct {
	t    *testing.T
	mu   sync.Mutex
	docs [][]string // by connection
	ends []net.Conn
	away bool // nobody answers
	// closes ends each connection as soon as something has come on it.
	closes bool
}

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		return nil, errors.New("nobody is there")
	}
	near, far := net.Pipe()
	n := len(p.docs)
	p.docs, p.ends = append(p.docs, nil), append(p.ends, far)
	go func() {
		defer far.Close()
		for b := bufio.NewReader(far); ; {
			frame, err := readFrame(b)
			if err != nil {
				return
			}
			m, err := parse(frame)
			if err != nil {
				p.t.Errorf("connection %d: %v", n, err)
			}
			p.mu.Lock()
			p.docs[n] = append(p.docs[n], string(m.msg))
			closes := p.closes
			p.mu.Unlock()
			if closes {
				return
			}
		}
	}()
	return near, nil
}

// cut ends the newest connection from the other side.
func (p *pipes) cut() {
	p.mu.Lock()
	p.ends[len(p.ends)-1].Close()
	p.mu.Unlock()
	synctest.Wait()
}

func (p *pipes) on(n int) []string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if n >= len(p.docs) {
		return nil
	}
	return slices.Clone(p.docs[n])
}

// bubble runs a test with a store whose connections are pipes.
func bubble(t *testing.T, c Config, f func(t *testing.T, p *pipes, s *Store)) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{t: t}
		// Not two bubbles with one receiver: what a store leaves is the next one's.
		c.URL, c.dial = "tcp://127.0.0.1:601", p.dial
		legacies.take(c.URL)
		s, err := Open(c, nil)
		if err != nil {
			t.Fatal(err)
		}
		f(t, p, s)
		s.Close()
		legacies.take(c.URL)
		time.Sleep(legacyTime + time.Second) // its timer is of this bubble
	})
}

func same(t *testing.T, what string, want, got []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestWhatWasWrittenLastIsWrittenAgainBeforeAnythingNew(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, p *pipes, s *Store) {
		a, b, c := records(t, 1, 3), records(t, 4, 5), records(t, 6, 6)
		write(t, s, a)
		write(t, s, b)
		p.cut()
		write(t, s, c)
		same(t, "first connection", documents(a, b), p.on(0))
		same(t, "second connection", documents(a, b, c), p.on(1))
		// Only what has not been written for long enough on the new one.
		time.Sleep(20 * time.Second)
		d := records(t, 7, 7)
		write(t, s, d)
		time.Sleep(11 * time.Second)
		p.cut()
		e := records(t, 8, 8)
		write(t, s, e)
		same(t, "third connection", documents(d, e), p.on(2))
	})
}

func TestAnOutageForgetsNothing(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, p *pipes, s *Store) {
		old, a, b := records(t, 1, 3), records(t, 4, 5), records(t, 6, 6)
		write(t, s, old)
		time.Sleep(31 * time.Second)
		write(t, s, a)
		time.Sleep(29 * time.Second)
		p.cut()
		p.mu.Lock()
		p.away = true
		p.mu.Unlock()
		for range 5 {
			mentions(t, fails(t, s), "nobody is there")
			time.Sleep(time.Hour)
		}
		p.mu.Lock()
		p.away = false
		p.mu.Unlock()
		write(t, s, b)
		same(t, "second connection", documents(a, b), p.on(1))
	})
}

func TestAConnectionThatBreaksAfterALongRestRepeatsNothing(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, p *pipes, s *Store) {
		a, b := records(t, 1, 3), records(t, 4, 5)
		write(t, s, a)
		time.Sleep(time.Hour)
		p.cut()
		write(t, s, b)
		same(t, "second connection", documents(b), p.on(1))
	})
}

func TestNothingIsWrittenAgainWhereThatIsNotWanted(t *testing.T) {
	bubble(t, Config{Resend: NoResend}, func(t *testing.T, p *pipes, s *Store) {
		a, b := records(t, 1, 3), records(t, 4, 5)
		write(t, s, a)
		p.cut()
		write(t, s, b)
		same(t, "second connection", documents(b), p.on(1))
	})
}

// A receiver that takes all and then closes has kept nothing, so nothing is acknowledged.
// So does one that does not take our certificate, or our messages.
func TestAConnectionThatDoesNotLastAcknowledgesNothing(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, p *pipes, s *Store) {
		a := records(t, 1, 3)
		write(t, s, a)
		p.mu.Lock()
		p.closes = true
		p.mu.Unlock()
		p.cut()
		for range 50 {
			mentions(t, fails(t, s), "closed")
			time.Sleep(30 * time.Second)
		}
		p.mu.Lock()
		p.closes = false
		p.mu.Unlock()
		b := records(t, 4, 5)
		write(t, s, b)
		same(t, "last connection", documents(a, b), p.on(len(p.docs)-1))
	})
}

func TestACloseWritesAgainWhatWasOwed(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, p *pipes, s *Store) {
		a := records(t, 1, 3)
		write(t, s, a)
		p.cut()
		// A pipe cannot be closed on one side only, so that nobody says that all was read.
		_ = s.Close()
		same(t, "second connection", documents(a), p.on(1))
	})
}

func TestWhatAReloadFindsIsWrittenAgainIfTheConnectionBreaks(t *testing.T) {
	r := newReceiver(t, "tcp", ports.ForTest(t), nil)
	c := Config{URL: "tcp://" + r.addr, probation: 10 * time.Millisecond}
	first := open(t, c)
	a, b, d := records(t, 1, 3), records(t, 4, 5), records(t, 6, 6)
	write(t, first, a)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := open(t, c)
	write(t, second, b)
	same(t, "after the reload", documents(a, b), r.texts(t, 5)) // nothing is repeated
	r.stop()
	r.start()
	write(t, second, d)
	same(t, "after the connection broke", documents(a, b, a, b, d), r.texts(t, 11))
}

func TestWhatAReceiverThatIsAwayDoesNotConfirmIsTheNextStores(t *testing.T) {
	r := newReceiver(t, "tcp", ports.ForTest(t), nil)
	c := Config{URL: "tcp://" + r.addr, probation: 10 * time.Millisecond}
	first := open(t, c)
	a, b := records(t, 1, 3), records(t, 4, 5)
	write(t, first, a)
	r.texts(t, 3)
	r.stop()
	err := first.Close()
	mentions(t, err, "entries 1 to 3 may not have arrived", "connect")
	r.start()
	second := open(t, c)
	write(t, second, b)
	same(t, "what arrived", documents(a, a, b), r.texts(t, 8))
}

func TestACloseDoesNotWaitForAReceiverThatReadsNothing(t *testing.T) {
	r := newReceiver(t, "tcp", ports.ForTest(t), nil)
	s := open(t, Config{URL: "tcp://" + r.addr, closeTime: 300 * time.Millisecond})
	write(t, s, records(t, 1, 3))
	letGo := r.hold(time.Hour)
	defer letGo()
	write(t, s, records(t, 4, 6))
	mentions(t, s.Close(), "entries 1 to 6 may not have arrived", "has not closed")
	mentions(t, s.Write(t.Context(), records(t, 1, 1)), "closed")
	if err := s.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

func TestAReceiverThatWasStartedAgainCostsNothing(t *testing.T) {
	r := newReceiver(t, "tcp", ports.ForTest(t), nil)
	s := open(t, Config{URL: "tcp://" + r.addr})
	var all []string
	for n := range 5 {
		batch := records(t, 10*n+1, 10*n+7)
		write(t, s, batch) // the connection is dead, and this is not the place to find out
		all = append(all, documents(batch)...)
		r.awaits(t, all)
		r.stop()
		r.start()
	}
	seen := map[string]bool{}
	var first []string
	for _, doc := range r.awaits(t, all) {
		if !seen[doc] {
			first = append(first, doc)
		}
		seen[doc] = true
	}
	same(t, "first arrivals", all, first)
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	k := kept{span: time.Minute}
	now := time.Now()
	for n := range 100 {
		k.add(part{at: now.Add(time.Duration(n) * time.Second), frames: make([]byte, 1<<20), entries: 1, first: uint64(n), last: uint64(n)})
	}
	if first, last := k.bounds(); first != 68 || last != 99 || k.size != maxKept {
		t.Errorf("%d to %d are kept, %d bytes", first, last, k.size)
	}
	k.add(part{frames: make([]byte, 2*maxKept), first: 100, last: 100})
	if first, _ := k.bounds(); first != 100 || len(k.parts) != 1 || k.size != 2*maxKept {
		t.Errorf("beside a large one %d parts are kept, %d bytes", len(k.parts), k.size)
	}
	k.owed = true
	k.forget(now.Add(time.Hour))
	if k.empty() {
		t.Error("what is owed was forgotten")
	}
	k.owed = false
	k.forget(now.Add(time.Hour))
	if !k.empty() || k.size != 0 {
		t.Errorf("%d bytes are kept after an hour", k.size)
	}
}

func TestAMessageThatIsTooLongIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	r := newReceiver(t, "tcp", ports.ForTest(t), nil)
	s := open(t, Config{URL: "tcp://" + r.addr})
	long := record(t, 3, 20_000)
	batch := append(records(t, 1, 2), long)
	err := s.Write(t.Context(), batch)
	if !isRefused(err) {
		t.Fatalf("got %v", err)
	}
	mentions(t, err, "entry 3", "max_message is 8192", fmt.Sprint(len(s.format.append(nil, &long))))
	write(t, s, batch[:2])
	same(t, "what arrived", documents(batch[:2]), r.texts(t, 2))

	// One that fits exactly passes.
	exact := open(t, Config{URL: "tcp://" + r.addr, MaxMessage: len(s.format.append(nil, &long))})
	write(t, exact, batch[2:])
	same(t, "what arrived", documents(batch), r.texts(t, 3))
}

// One message that a receiver answers by closing the connection is in what is written
// again, too. Once the store knows how much it takes, it is given up.
func TestAMessageThatBreaksEachConnectionIsGivenUpOnceItIsKnownToBeTooLong(t *testing.T) {
	r := newReceiver(t, "tcp", ports.ForTest(t), nil)
	c := Config{URL: "tcp://" + r.addr, MaxMessage: NoMaxMessage, probation: 20 * time.Millisecond}
	s := open(t, c)
	a, long, b := records(t, 1, 2), record(t, 3, 20_000), records(t, 4, 5)
	letGo := r.hold(time.Hour)
	write(t, s, a)
	write(t, s, []forwarder.Record{long})
	r.set(func() { r.most = 8 << 10 })
	letGo()
	<-s.conn.broken
	s.c.probation = time.Minute // which the end of a connection cuts short
	for range 3 {
		mentions(t, s.Write(t.Context(), b), "max_message")
	}
	mentions(t, s.Close(), "may not have arrived")

	c.MaxMessage = DefaultMaxMessage
	var logged bytes.Buffer
	next, err := Open(c, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	write(t, next, b)
	if err := next.Close(); err != nil {
		t.Error(err)
	}
	docs := r.texts(t, 4)
	same(t, "the end of what arrived", documents(a, b), docs[len(docs)-4:])
	if !strings.Contains(logged.String(), "larger than max_message") || !strings.Contains(logged.String(), "entries=1") {
		t.Errorf("logged: %s", &logged)
	}
}

func TestAUnixSocketIsWrittenTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	r := newReceiver(t, "unix", path, nil)
	s := open(t, Config{URL: "unix://" + path})
	a, b := records(t, 1, 3), records(t, 4, 5)
	write(t, s, a)
	r.texts(t, 3)
	r.stop()
	mentions(t, fails(t, s), "connect")
	r.start()
	write(t, s, b)
	same(t, "what arrived", documents(a, a, b), r.texts(t, 8))
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
