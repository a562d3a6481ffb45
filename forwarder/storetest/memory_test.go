package storetest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const secret = "s3cret-in-memory"

// server is a destination in memory, with all faults. What is wrong with it, or with
// the stores that write to it, has a name, so that the suite can be held to find it.
type server struct {
	delivery forwarder.Delivery
	// keepsOut says that it shows no repeats though it may, as with RepeatsKeptOut.
	keepsOut bool
	wrong    string

	mu       sync.Mutex
	rows     []row           // those that arrived, or each entry in its highest revision
	known    map[string]bool // ids that were ever in rows
	received map[string]map[uint64]bool
	pruned   map[string]bool
	redacted map[string]string // id → text

	refuses *string
	down    bool
	wasDown bool
	slow    chan struct{} // closed when it is fast again; nil if it is fast
	slowFor time.Duration
	cut     bool
	writing bool
}

type row struct {
	entry *audit.Entry
	doc   []byte
}

var (
	errDown   = errors.New("connecting to memory: it is down")
	errCut    = errors.New("writing to memory: the connection was reset")
	errClosed = errors.New("writing to memory: it is closed")
)

func (m *server) is(wrong string) bool { return m.wrong == wrong }

// target is the server as the suite sees it.
func (m *server) target(testing.TB) *Target {
	m.known = map[string]bool{}
	m.received, m.pruned, m.redacted = map[string]map[uint64]bool{}, map[string]bool{}, map[string]string{}
	locked := func(f func()) {
		m.mu.Lock()
		defer m.mu.Unlock()
		f()
	}
	return &Target{
		Opener:      m,
		Credentials: []string{secret},
		Documents: func() (docs [][]byte, err error) {
			locked(func() {
				for _, r := range m.sorted() {
					docs = append(docs, r.doc)
				}
			})
			return docs, nil
		},
		Refuse: func(text string) func() {
			locked(func() { m.refuses = &text })
			return func() { locked(func() { m.refuses = nil }) }
		},
		Break: func() func() {
			locked(func() { m.down, m.wasDown = true, true })
			return func() { locked(func() { m.down = false }) }
		},
		Slow: func(d time.Duration) func() {
			slow := make(chan struct{})
			locked(func() { m.slow, m.slowFor = slow, d })
			return func() {
				locked(func() { m.slow = nil })
				close(slow)
			}
		},
		Cut: func() { locked(func() { m.cut = true }) },
		Prune: func(ids ...string) error {
			locked(func() {
				for _, id := range ids {
					m.pruned[id] = true
				}
				m.rows = slices.DeleteFunc(m.rows, func(r row) bool { return m.pruned[r.entry.ID] })
			})
			return nil
		},
		Redact: func(id, text string) error {
			locked(func() {
				m.redacted[id] = text
				for i, r := range m.rows {
					m.rows[i].doc = m.redact(r.entry, r.doc)
				}
			})
			return nil
		},
	}
}

func (m *server) redact(e *audit.Entry, doc []byte) []byte {
	if text := m.redacted[e.ID]; text != "" {
		return bytes.ReplaceAll(doc, []byte(text), []byte("redacted"))
	}
	return doc
}

// sorted is what a reader finds.
func (m *server) sorted() []row {
	rows := slices.Clone(m.rows)
	if m.delivery == forwarder.DeliveryOnce {
		slices.SortFunc(rows, func(a, b row) int { return byArrival(a.entry, b.entry) })
	}
	return rows
}

// Describe implements forwarder.Opener.
func (m *server) Describe() forwarder.Description {
	d := forwarder.Description{Kind: "memory", Location: "memory:test", Delivery: m.delivery}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.is("describes itself with its credential"):
		d.Location = "memory://user:" + secret + "@test"
	case m.is("describes itself otherwise while it is down") && m.down:
		d.Location = "nowhere"
	case m.is("describes itself without a location"):
		d.Location = ""
	}
	return d
}

// Open implements forwarder.Opener.
func (m *server) Open(_ context.Context, log *slog.Logger) (forwarder.Store, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.is("leaks a credential into the log") {
		log.Info("connecting", "dsn", "memory://user:"+secret+"@test")
	}
	if m.is("leaks a goroutine") {
		go time.Sleep(5 * time.Second)
	}
	if m.down {
		if m.is("refuses to be opened while it is down") {
			return nil, &forwarder.RefusedError{Err: errDown}
		}
		if m.is("leaks a credential into an error of Open") {
			return nil, fmt.Errorf("connecting to memory://user:%s@test: %w", secret, errDown)
		}
		return nil, errDown
	}
	if m.is("stores the last row again at a start") && len(m.rows) > 0 {
		m.rows = append(m.rows, m.rows[len(m.rows)-1])
	}
	return &store{server: m, broken: m.is("has no memory of being mended") && m.wasDown}, nil
}

// OpenReader implements forwarder.ReaderOpener.
func (m *server) OpenReader(context.Context) (forwarder.ReadCloser, error) {
	return &store{server: m}, nil
}

// store is a forwarder.Store, Reader, Checker and Witness on a server.
type store struct {
	*server
	closed bool
	broken bool
}

func (s *store) Close() error {
	if s.is("hangs in Close") {
		time.Sleep(5 * time.Second)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.is("loses a row when it is closed") && len(s.rows) > 0 {
		s.rows = s.rows[:len(s.rows)-1]
	}
	return nil
}

func (s *store) Write(ctx context.Context, batch []forwarder.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		if s.is("panics when it was closed") {
			panic("write to a closed store")
		}
		return errClosed
	}
	if s.slow != nil && s.is("acknowledges what takes long") {
		return nil
	}
	if err := s.wait(ctx); err != nil {
		return err
	}
	if s.down || s.broken {
		switch {
		case s.is("says refused when it is down"):
			return &forwarder.RefusedError{Err: errDown}
		case s.is("acknowledges when it is down"):
			return nil
		case s.is("stays broken once it was down"):
			s.broken = true
		case s.is("leaks a credential into an error"):
			return fmt.Errorf("connecting to memory://user:%s@test: %w", secret, errDown)
		}
		return errDown
	}
	if err := s.refusal(batch); err != nil {
		return err
	}
	if s.is("skips what is refused") && s.refuses != nil {
		batch = slices.DeleteFunc(slices.Clone(batch), func(r forwarder.Record) bool { return bytes.Contains(r.JSON, []byte(*s.refuses)) })
	}
	if s.cut {
		s.cut = false
		if s.is("says refused when it is cut off") {
			return &forwarder.RefusedError{Err: errCut}
		}
		s.keep(batch[:len(batch)/2])
		if s.is("acknowledges half of a batch") {
			return nil
		}
		return errCut
	}
	return s.take(batch)
}

// wait waits for a slow server.
func (s *store) wait(ctx context.Context) error {
	if s.is("heeds no context") {
		ctx = context.Background()
	}
	if slow := s.slow; slow != nil {
		d := s.slowFor
		s.slow = nil // one batch
		s.mu.Unlock()
		defer s.mu.Lock()
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-slow:
		case <-timer.C:
		case <-ctx.Done():
			if s.is("says refused when its context ends") {
				return &forwarder.RefusedError{Err: ctx.Err()}
			}
			return ctx.Err()
		}
		if s.is("does not recover from a slow answer") {
			s.broken = true
		}
	}
	return ctx.Err()
}

func (s *store) refusal(batch []forwarder.Record) error {
	if s.refuses == nil || s.is("skips what is refused") {
		return nil
	}
	for _, r := range batch {
		if !bytes.Contains(r.JSON, []byte(*s.refuses)) {
			continue
		}
		err := fmt.Errorf("inserting entry %s: it is refused", r.Entry.ID)
		if s.is("does not say that it refused") || s.is("does not say that it refused everything") && *s.refuses == "" {
			return err
		}
		return &forwarder.RefusedError{Err: err}
	}
	return nil
}

// take stores a batch, in one of many ways that are wrong.
func (s *store) take(batch []forwarder.Record) error {
	batch = slices.Clone(batch)
	n := len(batch)
	switch {
	case s.is("drops one") && n > 10:
		batch = slices.Delete(batch, 4, 5)
	case s.is("takes the first thousand") && n > 1000:
		batch = batch[:1000]
	case s.is("swaps two") && n > 10:
		batch[3], batch[4] = batch[4], batch[3]
		if s.delivery == forwarder.DeliveryOnce { // by arrival, so their times change places
			batch[3].JSON, batch[4].JSON = batch[4].JSON, batch[3].JSON
		}
	case s.is("stores only what is new at the end") && len(s.rows) > 0:
		batch = slices.DeleteFunc(batch, func(r forwarder.Record) bool {
			return r.Sequence <= s.rows[len(s.rows)-1].entry.Origin.Sequence
		})
	case s.is("leaves out what it has"):
		batch = slices.DeleteFunc(batch, func(r forwarder.Record) bool {
			return slices.ContainsFunc(s.rows, func(have row) bool { return string(have.doc) == string(r.JSON) })
		})
	case s.is("tells entries apart by their sequence alone"):
		batch = slices.DeleteFunc(batch, func(r forwarder.Record) bool {
			return slices.ContainsFunc(s.rows, func(have row) bool {
				return have.entry.Origin.Sequence == r.Sequence && have.entry.ID != r.Entry.ID
			})
		})
	case s.is("changes the entry"):
		batch[0].Entry.Retention = &audit.Retention{Class: "default"}
	case s.is("changes the JSON"):
		batch[0].JSON[len(batch[0].JSON)-1] = ' '
	case s.is("panics without a target") && slices.ContainsFunc(batch, func(r forwarder.Record) bool { return r.Entry.Target == nil }):
		panic("nil target")
	case s.is("fails on a repeat"):
		for _, r := range batch {
			if slices.ContainsFunc(s.rows, func(have row) bool { return have.entry.ID == r.Entry.ID && have.entry.Revision == r.Entry.Revision }) {
				return errors.New("inserting: duplicate key")
			}
		}
	}
	if s.is("cannot be read during a write") {
		s.writing = true
		s.mu.Unlock()
		time.Sleep(3 * time.Millisecond)
		s.mu.Lock()
		s.writing = false
	}
	s.keep(batch)
	return nil
}

func (s *store) keep(batch []forwarder.Record) {
	had := len(s.rows)
	for _, r := range batch {
		s.keepOne(r, had)
	}
	if s.is("puts the newest batch first") {
		s.rows = append(slices.Clone(s.rows[had:]), s.rows[:had]...)
	}
}

func (s *store) keepOne(r forwarder.Record, had int) {
	e := *r.Entry
	doc := s.spoil(bytes.Clone(r.JSON), &e)
	if s.keepsOut && !s.is("stores a repeat again") && slices.ContainsFunc(s.rows, func(have row) bool {
		return have.entry.ID == e.ID && (have.entry.Revision == e.Revision || s.is("takes a revision for a repeat"))
	}) {
		doc = nil
	}
	if s.is("keeps the batch's memory") {
		doc = r.JSON
	}
	at := -1
	if s.delivery == forwarder.DeliveryOnce && s.known[e.ID] {
		at = slices.IndexFunc(s.rows, func(have row) bool {
			return have.entry.ID == e.ID && (!s.is("takes another sequence for another entry") || have.entry.Origin.Sequence == e.Origin.Sequence)
		})
	}
	s.known[e.ID] = true
	counts := at < 0 || e.Revision > s.rows[at].entry.Revision
	if seen := s.received[e.Origin.Instance]; !s.is("counts only the revisions that win") || counts {
		if seen == nil {
			seen = map[uint64]bool{}
			s.received[e.Origin.Instance] = seen
		}
		seen[e.Origin.Sequence] = true
	}
	if doc == nil {
		return
	}
	switch {
	case s.is("stores a repeat again"):
		at = -1
	case s.is("lets the last revision win"), s.is("lets the last revision of a batch win") && at >= had:
		counts = true
	case s.is("lets the first revision win") && at >= 0:
		counts = false
	}
	if s.pruned[e.ID] && !s.is("brings back what was pruned") || !counts && at >= 0 {
		return
	}
	if !s.is("brings back what was redacted") {
		doc = s.redact(&e, doc)
	}
	if at >= 0 {
		s.rows[at] = row{&e, doc}
		return
	}
	s.rows = append(s.rows, row{&e, doc})
}

// spoil does to a document what a column or a parser may do.
func (s *store) spoil(doc []byte, e *audit.Entry) []byte {
	switch {
	case s.is("cuts what is long") && len(doc) > 1<<18:
		return append(doc[:1<<18:1<<18], `"}`...)
	case s.is("takes U+0000 away"):
		return bytes.ReplaceAll(doc, []byte(`\u0000`), nil)
	case s.is("composes characters"):
		return bytes.ReplaceAll(doc, []byte("e\u0301"), []byte("\u00e9"))
	case s.is("encodes numbers again"):
		var v map[string]any
		if json.Unmarshal(doc, &v) == nil {
			doc, _ = json.Marshal(v)
		}
	case s.is("encodes the entry again"):
		if b, err := e.Encode(); err == nil {
			return b
		}
	case s.is("knows no token scope"):
		return bytes.Replace(doc, []byte(`"token_scope":"text",`), nil, 1)
	}
	return doc
}

// Read implements forwarder.Reader.
func (s *store) Read(ctx context.Context, q forwarder.Query) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		s.mu.Lock()
		rows, writing := s.sorted(), s.writing
		if s.is("holds its lock while it is read") {
			defer s.mu.Unlock()
		} else {
			s.mu.Unlock()
		}
		if err := ctx.Err(); err != nil || writing {
			yield(nil, cmp.Or(err, errors.New("reading memory: somebody writes")))
			return
		}
		if q.NewestFirst && !s.is("reads the oldest first, always") {
			slices.Reverse(rows)
		}
		s.misread(&q)
		if s.is("ignores other tokens") && len(q.Trail.Hashes) > 0 {
			rows = slices.DeleteFunc(rows, func(r row) bool {
				return !slices.Contains(q.Trail.Hashes, r.entry.Actor.TokenHash) && (q.Trail.Session == "" || r.entry.Actor.SessionID != q.Trail.Session)
			})
		}
		n := 0
		for _, r := range rows {
			if !q.Matches(r.entry) {
				continue
			}
			if n++; q.Limit > 0 && n > q.Limit && !s.is("ignores the limit") {
				return
			}
			if !yield(r.doc, nil) {
				return
			}
		}
	}
}

// Received implements forwarder.Checker.
func (s *store) Received(context.Context) (ranges []forwarder.Range, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range slices.Sorted(maps.Keys(s.received)) {
		for _, n := range slices.Sorted(maps.Keys(s.received[of])) {
			if i := len(ranges) - 1; i >= 0 && ranges[i].Instance == of && ranges[i].Last+1 == n && !s.is("merges no ranges") {
				ranges[i].Last = n
				continue
			}
			ranges = append(ranges, forwarder.Range{Instance: of, First: n, Last: n})
		}
	}
	return ranges, nil
}

// Missing implements forwarder.Checker.
func (s *store) Missing(ctx context.Context) ([]forwarder.Range, error) {
	received, err := s.Received(ctx)
	return forwarder.Holes(received), err
}

// Highest implements forwarder.Witness.
func (s *store) Highest(_ context.Context, of string) (highest uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for from, seen := range s.received {
		if from == of || s.is("takes all instances for one") {
			for n := range seen {
				highest = max(highest, n)
			}
		}
	}
	if s.is("knows only the newest sequence") && len(s.rows) > 0 && highest > 0 {
		highest = s.rows[len(s.rows)-1].entry.Origin.Sequence
	}
	return highest, nil
}

// String shows what is wrong, for the test's own messages.
func (m *server) String() string { return strings.TrimSpace(m.wrong + " " + string(m.delivery)) }
