// Fill fills a buffer with entries, opens it, or reads it, as fast as the
// package can, and prints what that took as one JSON line. It is the part of
// backlog that has to be inside: the only program of bench that imports the
// product's packages, so that ten million entries take minutes and not hours,
// and so that a buffer can be measured without a server around it.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
)

type options struct {
	dir     string
	entries uint64
	size    int
	callers int
	open    bool
	read    bool
	within  time.Duration
}

func main() {
	var o options
	fs := flag.NewFlagSet("fill", flag.ExitOnError)
	fs.StringVar(&o.dir, "dir", "", "the buffer's `directory`")
	fs.Uint64Var(&o.entries, "entries", 200_000, "how `many` entries to append at least")
	fs.IntVar(&o.size, "size", 600, "`bytes` of an entry, about")
	fs.IntVar(&o.callers, "callers", 16384, "how `many` append at the same time, each waiting for its commit")
	fs.BoolVar(&o.open, "open", false, "open and close the buffer instead")
	fs.BoolVar(&o.read, "read", false, "read all entries instead, and change nothing")
	fs.DurationVar(&o.within, "within", time.Hour, "read for so `long` at most")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), "Fills a buffer, opens it, or reads it.\n\n"+
			"  go run ./bench/backlog/fill -dir /tmp/buffer -entries 1000000\n  go run ./bench/backlog/fill -dir /tmp/buffer -read\n\n")
		fs.PrintDefaults()
	}
	_ = fs.Parse(os.Args[1:]) // exits by itself
	if err := run(context.Background(), o); err != nil {
		fmt.Fprintln(os.Stderr, "fill:", err)
		os.Exit(1)
	}
}

// result is what something took.
type result struct {
	Entries  uint64  `json:"entries"`
	Bytes    int64   `json:"bytes"`
	Segments int     `json:"segments"`
	Seconds  float64 `json:"seconds"`
}

func run(ctx context.Context, o options) error {
	if o.dir == "" || o.callers < 1 || o.size < 1 {
		return errors.New("reading the options: name a directory with -dir; -callers and -size must be above zero")
	}
	do := fill
	switch {
	case o.open:
		do = open
	case o.read:
		do = read
	}
	r, err := do(ctx, o)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// settings are those of a server, but for the bound of the size and of the wait.
func settings() buffer.Options {
	return buffer.Options{MaxSize: 1 << 40, MaxWait: time.Minute}
}

// strictCallers is how many make whole calls at the same time.
const strictCallers = 1024

// fill appends until there are enough entries, and then makes whole calls, with
// an intent each, until the newest segment has three fifths of its size full of
// those: it is the one that a start reads.
func fill(ctx context.Context, o options) (r result, err error) {
	b, err := buffer.Open(o.dir, settings())
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, b.Close(ctx)) }()
	start := time.Now()
	m, err := newMaker(o.size)
	if err != nil {
		return r, err
	}
	var (
		callers     sync.WaitGroup
		next        atomic.Uint64
		strict, end atomic.Bool
		failed      atomic.Pointer[error]
	)
	for i := range max(o.callers, strictCallers) {
		callers.Go(func() {
			for !end.Load() {
				var err error
				switch {
				case !strict.Load() && i < o.callers:
					err = b.Append(m.entry(next.Add(1)))
				case strict.Load() && i < strictCallers:
					err = call(b, m.entry(next.Add(1)))
				case strict.Load():
					return
				default:
					time.Sleep(10 * time.Millisecond)
				}
				if err != nil {
					failed.CompareAndSwap(nil, &err)
					end.Store(true)
				}
			}
		})
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	said := time.Now()
	st := b.Stats()
	segments, from, began := st.Segments, 0, st.Bytes // from: calls are whole from that segment on
	for !end.Load() {
		<-tick.C
		if st = b.Stats(); st.Segments > segments {
			segments, began = st.Segments, st.Bytes
		}
		if from == 0 && st.Head >= o.entries {
			strict.Store(true)
			from = segments + 1
		}
		if from > 0 && segments >= from && st.Bytes-began >= buffer.DefaultSegmentSize*3/5 {
			end.Store(true)
		}
		if time.Since(said) >= 5*time.Second {
			said = time.Now()
			fmt.Fprintf(os.Stderr, "entries %d of %d\n", st.Head, o.entries)
		}
	}
	callers.Wait()
	if err := failed.Load(); err != nil {
		return r, *err
	}
	st = b.Stats()
	return result{st.Head, st.Bytes, st.Segments, time.Since(start).Seconds()}, nil
}

// call makes a changing call durable, as a server does.
func call(b *buffer.Buffer, entry []byte) error {
	c, err := b.Admit(2*len(entry), buffer.Caller{Known: true})
	if err != nil {
		return err
	}
	defer c.Release()
	if err := c.Begin(bytes.Clone(entry)); err != nil {
		return err
	}
	return c.Append(entry)
}

// open is a start without a server.
func open(ctx context.Context, o options) (result, error) {
	start := time.Now()
	b, err := buffer.Open(o.dir, settings())
	if err != nil {
		return result{}, err
	}
	took, st := time.Since(start), b.Stats()
	return result{st.Head, st.Bytes, st.Segments, took.Seconds()}, b.Close(ctx)
}

// read reads as a forwarder does, without a store behind it.
func read(_ context.Context, o options) (r result, err error) {
	b, err := buffer.OpenOffline(o.dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	r.Segments = b.Stats().Segments
	start := time.Now()
	for more := true; more; {
		before := r.Entries
		err := b.Read(before+1, func(sequence uint64, payload []byte) bool {
			r.Entries = sequence
			r.Bytes += int64(len(payload))
			more = time.Since(start) < o.within
			return more
		})
		if err != nil {
			return r, err
		}
		more = more && r.Entries > before
	}
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

// maker makes entries that differ in what differs in life.
type maker struct {
	head, target, tail string
	began              time.Time
}

// newMaker makes the parts of an entry that all have in common.
func newMaker(size int) (*maker, error) {
	const id, target = "01900000-0000-7000-8000-000000000000", "function-0000000000"
	e := &audit.Entry{
		ID: id, Revision: audit.RevisionAnswer, Timestamp: 1_000_000_000_000_000, ProjectRef: "abcdefghijklmnopqrst",
		Action: audit.Action{Code: "v1-update-a-function", Method: "PATCH", Route: "/v1/projects/{ref}/functions/{function_slug}", Status: 200},
		Actor:  audit.Actor{TokenType: "v0", TokenHash: "8246ef07a213a4d967736d59dbf73bab28edbf8c90d7d383e836efc53de4fe6e", Verification: audit.VerificationAccepted, IP: "203.0.113.7"},
		Target: &audit.Target{Type: "edge_function", ID: target, Parent: "abcdefghijklmnopqrst"}, Outcome: audit.OutcomeSuccess,
		Policy:        audit.Policy{Rule: "default", Level: audit.LevelMetadata, Durability: audit.DurabilityStrict},
		SchemaVersion: audit.SchemaVersion,
	}
	b, err := e.Encode()
	if err != nil {
		return nil, err
	}
	for len(b) < size {
		e.Actor.UserAgent += "x"
		if b, err = e.Encode(); err != nil {
			return nil, err
		}
	}
	m := &maker{began: time.Now()}
	const front = `{"id":"` + id + `","revision":1,"timestamp":1000000000000000`
	at := len(front)
	for ; at+len(target) <= len(b) && string(b[at:at+len(target)]) != target; at++ {
	}
	if string(b[:len(front)]) != front || at+len(target) > len(b) {
		return nil, fmt.Errorf("making an entry: its fields have another order than this program knows: %s", b)
	}
	m.head, m.target, m.tail = string(b[len(front):at]), "function-", string(b[at+len(target):])
	if _, err := audit.Decode(m.entry(1)); err != nil {
		return nil, err
	}
	return m, nil
}

// entry makes the n-th entry. Its id looks like any other, in time's order.
func (m *maker) entry(n uint64) []byte {
	now := m.began.UnixMicro() + int64(n)
	ms := uint64(now / 1000)
	return fmt.Appendf(make([]byte, 0, len(m.head)+len(m.tail)+128), `{"id":"%08x-%04x-7%03x-8%03x-%012x","revision":1,"timestamp":%016d%s%s%010d%s`,
		ms>>16, ms&0xffff, n>>12&0xfff, n&0xfff, n, now, m.head, m.target, n%10_000_000_000, m.tail)
}
