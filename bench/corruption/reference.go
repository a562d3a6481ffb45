package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

const (
	readyTimeout = 30 * time.Second
	stopTimeout  = 30 * time.Second
	callTimeout  = 20 * time.Second

	// sealed is how many sealed segments a reference has, besides the newest,
	// and calls are how many calls of the newest one it has at least.
	sealed = 3
	calls  = 300
	// inFlight is how many calls are open when a build is killed.
	inFlight = 8

	headerHold = "Oracle-Hold"
	lockName   = "LOCK"
)

// reference is what a build has left behind: a buffer of which nothing was
// delivered. It is the truth of a run.
type reference struct {
	files    map[string][]byte // of the buffer's directory, but for its lock
	segments []*segment        // oldest first
	head     uint64
	instance string
	entries  []entry // by sequence, from 1
	// intents are the calls' ids that the newest segment has intents of, by
	// intent; open are those whose calls had no end.
	intents map[uint64]string
	open    map[string]bool
	// uncommitted are entries behind the head that a kill has left in the
	// newest file, and begun the ids of calls of which it has left the intent.
	// Nobody was answered on their account, and who scans the file may find
	// them.
	uncommitted map[uint64]content
	begun       map[string]bool
}

type segment struct {
	name        string
	first, last uint64
	used        int // bytes of the file
}

type entry struct {
	id      string
	content content
	intent  uint64
}

// newest is the segment that a build was appending to.
func (r *reference) newest() *segment { return r.segments[len(r.segments)-1] }

// of is the segment of a sequence.
func (r *reference) of(sequence uint64) *segment {
	for _, s := range r.segments {
		if sequence >= s.first && sequence <= s.last {
			return s
		}
	}
	return nil
}

// api is the stub API. It never answers a call that asks for that.
type api struct{ held atomic.Int64 }

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get(headerHold) != "" {
		a.held.Add(1)
		<-r.Context().Done()
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"id":"function"}`))
}

// smallSegments writes the configuration with segments of 1 MiB.
func smallSegments(caddyfile, dir string) (string, error) {
	b, err := os.ReadFile(caddyfile)
	if err != nil {
		return "", fmt.Errorf("reading the Caddyfile: %w", err)
	}
	line := regexp.MustCompile(`(?m)^(\s*)buffer .*\{$`)
	if len(line.FindAll(b, 2)) != 1 {
		return "", fmt.Errorf("setting segment_size: %s does not have exactly one buffer block; name a file that is like the shipped one with -caddyfile", caddyfile)
	}
	path := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(path, line.ReplaceAll(b, []byte("$0\n$1\tsegment_size 1MiB")), 0o600); err != nil {
		return "", fmt.Errorf("setting segment_size: %w", err)
	}
	return path, nil
}

// place is a site whose buffer and store are put into one state or another.
type place struct {
	*rig.Site
	api *api
}

func (p *place) buffer() string { return filepath.Join(p.AuditDir(), "buffer") }
func (p *place) store() string  { return filepath.Join(p.AuditDir(), "audit.db") }

// block keeps the store from taking anything: a directory lies in its place.
func (p *place) block() error {
	if err := os.MkdirAll(p.AuditDir(), 0o700); err != nil {
		return err
	}
	return os.Mkdir(p.store(), 0o700)
}

func (p *place) unblock() error { return os.Remove(p.store()) }

// call sends one call and returns the target of its entry.
func (p *place) call(conn *rig.Conn, n int, header ...string) (target string, err error) {
	target = fmt.Sprintf("call-%d", n)
	method, body := "PATCH", `{"name":"x"}`
	if n%4 == 0 {
		method, body = "GET", ""
	}
	a, err := conn.Do(rig.Request(method, "/v1/projects/oracleoracleoracleor/functions/"+target, p.Addr, body,
		append(header, "Authorization: Bearer sbp_0123456789abcdef0123456789abcdef01234567")...), callTimeout)
	if err != nil {
		return "", err
	}
	if a.Status != http.StatusOK {
		return "", fmt.Errorf("calling: the answer is %d: %.200q", a.Status, a.Body)
	}
	return target, nil
}

// build has a build fill a buffer under load and ends it, by force or in an
// orderly way.
func (p *place) build(ctx context.Context, kill bool) (_ *reference, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("building the reference: %w", err)
		}
	}()
	if err := p.block(); err != nil {
		return nil, err
	}
	proc, err := p.Start(ctx)
	if err != nil {
		return nil, err
	}
	defer proc.Kill()
	if err := proc.Ready(ctx, readyTimeout); err != nil {
		return nil, err
	}
	if err := p.fill(ctx, proc, kill); err != nil {
		return nil, err
	}
	if !kill {
		if err := proc.Stop(stopTimeout); err != nil {
			return nil, err
		}
	}
	if err := p.unblock(); err != nil {
		return nil, err
	}
	return p.read(ctx)
}

// fill calls until the buffer has enough segments. It kills the build while
// calls go on, or lets them end.
func (p *place) fill(ctx context.Context, proc *rig.Process, kill bool) error {
	ctx, stop := context.WithTimeout(ctx, 2*time.Minute)
	defer stop()
	var (
		clients sync.WaitGroup
		next    atomic.Int64
		failed  atomic.Pointer[error]
		end     atomic.Bool
	)
	for range 16 {
		clients.Go(func() {
			conn, err := rig.Dial(p.Addr)
			if err == nil {
				defer conn.Close()
			}
			for err == nil && !end.Load() {
				_, err = p.call(conn, int(next.Add(1)))
			}
			if err != nil && !end.Load() {
				failed.CompareAndSwap(nil, &err)
				stop()
			}
		})
	}
	defer clients.Wait()
	defer end.Store(true)
	enough := int64(0)
	for enough == 0 || next.Load() < enough {
		select {
		case <-ctx.Done():
			if err := failed.Load(); err != nil {
				return *err
			}
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
		names, err := filepath.Glob(filepath.Join(p.buffer(), "seg-*.db"))
		if err != nil {
			return err
		}
		if len(names) > sealed && enough == 0 {
			enough = next.Load() + calls
		}
	}
	if !kill {
		return nil
	}
	var open sync.WaitGroup
	defer open.Wait()
	for i := range inFlight {
		open.Go(func() {
			conn, err := rig.Dial(p.Addr)
			if err != nil {
				return // too few are held then, which is noticed
			}
			defer conn.Close()
			_, _ = p.call(conn, 1_000_001+2*i, headerHold+": 1") // never answered
		})
	}
	for p.api.held.Load() < inFlight {
		select {
		case <-ctx.Done():
			return errors.Join(errors.New("waiting for calls to be in flight"), ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
	end.Store(true)
	proc.Kill()
	return nil
}

// read takes the buffer's files for the truth.
func (p *place) read(ctx context.Context) (*reference, error) {
	st, err := p.Status(ctx)
	if err != nil {
		return nil, err
	}
	r := &reference{files: map[string][]byte{}, intents: map[uint64]string{}, open: map[string]bool{}, uncommitted: map[uint64]content{}, begun: map[string]bool{}, instance: st.Instance}
	files, err := os.ReadDir(p.buffer())
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.Name() == lockName {
			continue
		}
		if r.files[f.Name()], err = os.ReadFile(filepath.Join(p.buffer(), f.Name())); err != nil {
			return nil, err
		}
	}
	ids := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(r.files)) { // the names' order is that of the sequences
		if !strings.HasPrefix(name, "seg-") {
			continue
		}
		s, err := r.readSegment(filepath.Join(p.buffer(), name), ids)
		if err != nil {
			return nil, fmt.Errorf("reading segment %q: %w", name, err)
		}
		r.segments = append(r.segments, s)
	}
	if len(r.segments) <= sealed {
		return nil, fmt.Errorf("only %d segments are there", len(r.segments))
	}
	for _, f := range scan(r.files[r.newest().name]) {
		if f.isState() {
			continue
		}
		id, c, err := read(f.payload)
		switch {
		case err != nil:
			return nil, err
		case f.isIntent() && r.intents[f.intent] == "":
			r.begun[id] = true
		case f.isEntry() && f.sequence > r.head:
			r.uncommitted[f.sequence] = c
		}
	}
	if st.Head != r.head || int(st.Calls.Open) != len(r.open) {
		return nil, fmt.Errorf("the product's own reading of it is another: head %d and %d open intents, the files have %d and %d", st.Head, st.Calls.Open, r.head, len(r.open))
	}
	return r, nil
}

// readSegment reads an undamaged file by bbolt.
func (r *reference) readSegment(path string, ids map[string]bool) (*segment, error) {
	db, err := bolt.Open(path, 0, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	s := &segment{name: filepath.Base(path), first: r.head + 1}
	// Only the newest segment's intents count.
	clear(r.intents)
	clear(r.open)
	err = db.View(func(tx *bolt.Tx) error {
		s.used = int(tx.Size())
		err := framesOf(tx.Bucket([]byte("i")), func(f frame) (uint64, error) {
			if !f.isIntent() {
				return 0, errors.New("what should be an intent's frame is none")
			}
			id, _, err := read(f.payload)
			r.intents[f.intent], r.open[id] = id, true
			return f.intent, err
		})
		if err != nil {
			return err
		}
		return framesOf(tx.Bucket([]byte("e")), func(f frame) (uint64, error) {
			if !f.isEntry() || f.sequence != r.head+1 {
				return 0, fmt.Errorf("the frame of entry %d is not what it should be", r.head+1)
			}
			id, c, err := read(f.payload)
			if err != nil {
				return 0, err
			}
			if ids[id] {
				return 0, fmt.Errorf("entry %d has the id of another, so that a store would have only one of them", f.sequence)
			}
			ids[id] = true
			delete(r.open, id)
			r.head++
			r.entries = append(r.entries, entry{id, c, f.intent})
			return f.sequence, nil
		})
	})
	s.last = r.head
	return s, err
}

// framesOf visits the frames of a bucket, those of runs too. visit returns what a frame's number
// is, and the last one's must be the key.
func framesOf(b *bolt.Bucket, visit func(frame) (uint64, error)) error {
	return b.ForEach(func(k, v []byte) error {
		if v == nil {
			v = b.Bucket(k).Get(k)
		}
		var last uint64
		for {
			f, ok := parse(v)
			if !ok {
				return fmt.Errorf("behind number %d there is no frame", last)
			}
			var err error
			if last, err = visit(f); err != nil {
				return err
			}
			if v = v[frameHeader+len(f.payload):]; len(v) == 0 {
				break
			}
		}
		if binary.BigEndian.Uint64(k) != last {
			return fmt.Errorf("what ends with number %d has the key %x", last, k)
		}
		return nil
	})
}

// restore makes the buffer what the reference is, but for what was harmed. The
// lock stays the same file, since another one would show that the directory
// was copied.
func (p *place) restore(r *reference, harmed map[string][]byte) error {
	entries, err := os.ReadDir(p.AuditDir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != "buffer" {
			if err := os.RemoveAll(filepath.Join(p.AuditDir(), e.Name())); err != nil {
				return err
			}
		}
	}
	files, err := os.ReadDir(p.buffer())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range files {
		if f.Name() != lockName {
			if err := os.RemoveAll(filepath.Join(p.buffer(), f.Name())); err != nil {
				return err
			}
		}
	}
	return r.write(p.buffer(), harmed)
}

// write writes the files into a directory, with others in the place of what
// was harmed.
func (r *reference) write(dir string, harmed map[string][]byte) error {
	for name, b := range r.files {
		if h, ok := harmed[name]; ok {
			b = h
		}
		if err := writeSparse(filepath.Join(dir, name), b); err != nil {
			return err
		}
	}
	return nil
}

// writeSparse writes a new file and leaves out the zeros at its end, which are
// most of a small segment.
func writeSparse(path string, b []byte) error {
	if err := os.WriteFile(path, bytes.TrimRight(b, "\x00"), 0o600); err != nil {
		return err
	}
	return os.Truncate(path, int64(len(b)))
}
