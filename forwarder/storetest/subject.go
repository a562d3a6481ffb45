package storetest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"reflect"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// testCase is one case. Its name is a sentence, and what a store's test names it by.
type testCase struct {
	name string
	run  func(s *subject)
}

// try runs the case against a new target. t may also be one that only takes note, so
// that the suite can be tested itself.
func (c testCase) try(t testing.TB, target func(t testing.TB) *Target, o Options) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		leaks := []goleak.Option{before}
		for _, f := range o.Lasting {
			leaks = append(leaks, goleak.IgnoreAnyFunction(f))
		}
		if t.Failed() {
			return // what has failed halfway may have left something behind
		}
		if err := goleak.Find(leaks...); err != nil {
			t.Errorf("%s: %v", leftBehind, err)
		}
	})
	s := &subject{TB: t, Target: target(t), o: o}
	s.log = slog.New(slog.NewTextHandler(&s.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	t.Cleanup(func() {
		s.close()
		s.searchFor("the log", s.logged.String())
	})
	s.open()
	c.run(s)
}

const leftBehind = "goroutines were left behind"

// subject is the store of one case, and all that was asked of it.
type subject struct {
	testing.TB
	*Target
	o      Options
	store  forwarder.Store // nil while it is closed
	notes  memoryNotes     // outlive it, as the buffer does
	log    *slog.Logger
	logged lockedBuffer

	mu       sync.Mutex
	attempts []attempt
	// disturbed says that a fault is at work: the store may have tried more than
	// once in one Write.
	disturbed bool
	// loose says that what was given up may still arrive, so that order says
	// nothing any more.
	loose bool
}

// attempt is one Write.
type attempt struct {
	batch []forwarder.Record
	// acknowledged says that Write returned nil.
	acknowledged, disturbed bool
}

// once reports whether the store keeps a repeat out.
func (s *subject) once() bool {
	return s.Opener.Describe().Delivery == forwarder.DeliveryOnce
}

// open opens the store, as at a start.
func (s *subject) open() {
	s.Helper()
	if err := s.tryOpen(); err != nil {
		s.Fatalf("opening the store: %v", err)
	}
}

// tryOpen opens the store if it can be.
func (s *subject) tryOpen() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.o.patience)
	defer cancel()
	store, err := s.Opener.Open(ctx, s.log)
	if err != nil {
		s.searchFor("an error of Open", err.Error())
		return err
	}
	if k, ok := store.(forwarder.NoteKeeper); ok {
		k.KeepNotes(&s.notes)
	}
	s.store = store
	return nil
}

// memoryNotes are those of the case's store.
type memoryNotes struct{ note []byte }

// Note implements forwarder.Notes.
func (n *memoryNotes) Note() []byte { return bytes.Clone(n.note) }

// SetNote implements forwarder.Notes.
func (n *memoryNotes) SetNote(note []byte) error {
	if len(note) > forwarder.MaxNote || !json.Valid(note) {
		return fmt.Errorf("keeping a note of %d bytes: it is a JSON value of up to %d", len(note), forwarder.MaxNote)
	}
	n.note = bytes.Clone(note)
	return nil
}

// need fails a case that cannot run and was not declared.
func (s *subject) need(what string, has bool) {
	s.Helper()
	if !has {
		s.Fatalf("this needs %s, which there is not: see to it, or name the case in Options.NotApplicable with the reason", what)
	}
}

// close closes the store, if it is open.
func (s *subject) close() {
	s.Helper()
	if s.store == nil {
		return
	}
	store := s.store
	s.store = nil
	s.within("closing the store", s.o.patience, func() {
		err := store.Close()
		if err == nil {
			return
		}
		s.searchFor("an error of Close", err.Error())
		if !s.disturbed { // a fault may show here once more
			s.Errorf("closing the store: %v", err)
		}
	})
}

// within fails if f takes longer than that.
func (s *subject) within(what string, d time.Duration, f func()) {
	s.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(d):
		s.Fatalf("%s has not come to an end in %v", what, d)
	}
}

// write makes one attempt, which must succeed.
func (s *subject) write(batch []forwarder.Record) {
	s.Helper()
	if err := s.try(context.Background(), batch); err != nil {
		s.Fatalf("writing %s: %v", sequences(batch), err)
	}
}

// send writes entries in batches as large as the forwarder's on a backlog.
func (s *subject) send(entries []forwarder.Record) {
	s.Helper()
	var b forwarder.Batching
	if o, ok := s.Opener.(forwarder.BatchOpener); ok {
		b = o.Batching()
	}
	limit := max(cmp.Or(b.MaxBatchEntries, forwarder.DefaultMaxBatchEntries), cmp.Or(b.BatchEntries, forwarder.DefaultBatchEntries))
	size := cmp.Or(b.BatchBytes, forwarder.DefaultBatchBytes)
	for len(entries) > 0 {
		n, bytes := 1, len(entries[0].JSON)
		for n < min(limit, len(entries)) && bytes+len(entries[n].JSON) <= size {
			bytes += len(entries[n].JSON)
			n++
		}
		s.write(entries[:n])
		entries = entries[n:]
	}
}

// deliver makes attempts until one succeeds, as the forwarder does.
func (s *subject) deliver(batch []forwarder.Record) {
	s.Helper()
	deadline := time.Now().Add(s.o.patience)
	for {
		err := s.try(context.Background(), batch)
		if err == nil {
			return
		}
		if isRefused(err) {
			s.Fatalf("writing %s: nothing in it may be refused, but it was: %v", sequences(batch), err)
		}
		if time.Now().After(deadline) {
			s.Fatalf("writing %s: the store does not recover: %v", sequences(batch), err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// try makes one attempt. Whatever ctx is, it fails if the store hangs.
func (s *subject) try(ctx context.Context, batch []forwarder.Record) error {
	s.Helper()
	err := s.attempt(ctx, s.store, batch)
	if errors.Is(err, errHangs) {
		s.FailNow()
	}
	return err
}

// errHangs is the error of a Write that does not return.
var errHangs = errors.New("Write does not return")

// attempt is try from any goroutine.
func (s *subject) attempt(ctx context.Context, store forwarder.Store, batch []forwarder.Record) error {
	s.Helper()
	ctx, cancel := context.WithTimeout(ctx, s.o.patience)
	defer cancel()
	given := make([]forwarder.Record, len(batch))
	for i, r := range batch {
		given[i] = forwarder.Record{Sequence: r.Sequence, Entry: decode(s, r.JSON), JSON: bytes.Clone(r.JSON)}
		if r.Stamp != nil {
			stamp := *r.Stamp
			given[i].Stamp = &stamp
			stamp.On(given[i].Entry)
		}
	}
	result := make(chan error, 1)
	go func() { result <- guarded(ctx, store, given) }()
	var err error
	select {
	case err = <-result:
	case <-ctx.Done():
		select {
		case err = <-result:
		case <-time.After(s.o.patience):
			s.Errorf("writing %s: Write has not returned %v after its context ended", sequences(batch), s.o.patience)
			return errHangs
		}
	}
	for i, r := range given {
		if !bytes.Equal(r.JSON, batch[i].JSON) || !reflect.DeepEqual(r.Entry, batch[i].Entry) {
			s.Errorf("writing %s: the store has changed entry %d", sequences(batch), r.Sequence)
		}
		// What is kept in spite of the contract shows.
		for j := range r.JSON {
			r.JSON[j] = '!'
		}
	}
	clear(given)
	if err != nil {
		s.searchFor("an error of Write", fmt.Sprintf("%v %+v", err, err))
	}
	if _, panicked := errors.AsType[*panicError](err); panicked {
		s.Errorf("writing %s: %v", sequences(batch), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts = append(s.attempts, attempt{batch: batch, acknowledged: err == nil, disturbed: s.disturbed})
	return err
}

// guarded turns a panic into an error, so that it fails one case and not the program.
func guarded(ctx context.Context, store forwarder.Store, batch []forwarder.Record) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{fmt.Sprintf("Write panicked: %v\n%s", p, debug.Stack())}
		}
	}()
	return store.Write(ctx, batch)
}

type panicError struct{ text string }

func (e *panicError) Error() string { return e.text }

// isRefused reports whether a store says that it refused a batch for what is in it.
func isRefused(err error) bool {
	_, refused := errors.AsType[*forwarder.RefusedError](err)
	return refused
}

// searchFor fails if one of the target's credentials is in a text. It says which one
// by number only.
func (s *subject) searchFor(where, text string) {
	s.Helper()
	for i, secret := range s.Credentials {
		for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret)} {
			if secret != "" && strings.Contains(text, form) {
				s.Errorf("%s holds credential %d", where, i)
				break
			}
		}
	}
}

// lockedBuffer takes a log from several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
