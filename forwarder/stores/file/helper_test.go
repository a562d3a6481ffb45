package file

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const testInstance = "0198c0de-0000-7000-8000-000000000001"

// record is entry n, of about 700 bytes.
func record(n int) forwarder.Record {
	e := &audit.Entry{
		ID: fmt.Sprintf("0198c0de-0000-7000-8000-%012x", n), Revision: 1, Timestamp: 1_760_000_000_000_000 + int64(n),
		Action:  audit.Action{Code: "v1-update-function", Method: "PATCH", Path: "/v1/projects/a", Status: 200},
		Actor:   audit.Actor{TokenType: "jwt", UserAgent: strings.Repeat("agent ", 60)},
		Outcome: audit.OutcomeSuccess, SchemaVersion: audit.SchemaVersion,
	}
	b, err := e.Encode()
	if err != nil {
		panic(err)
	}
	r, err := forwarder.NewRecord(testInstance, uint64(n), b)
	if err != nil {
		panic(err)
	}
	return r
}

func records(first, last int) []forwarder.Record {
	var batch []forwarder.Record
	for n := first; n <= last; n++ {
		batch = append(batch, record(n))
	}
	return batch
}

func newPath(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "data", "audit.ndjson")
}

func open(t testing.TB, c Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return s
}

func write(t testing.TB, s *Store, first, last int) {
	t.Helper()
	if err := s.Write(t.Context(), records(first, last)); err != nil {
		t.Fatal(err)
	}
}

// content is what a reader of all files finds, one after the other. A file that is
// there twice, since its compression was broken off, is read once.
func content(path string) ([]byte, error) {
	s := &Store{names: namesOf(path)}
	all, err := s.names.rotated()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, r := range all {
		err := s.read(context.Background(), r.files()[0], func(r io.Reader) error {
			_, err := b.ReadFrom(r)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.name, err)
		}
	}
	live, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return append(b.Bytes(), live...), nil
}

// sequences are those of whole lines. What is behind the last newline is no line.
func sequences(b []byte) ([]int, error) {
	var got []int
	lines := bytes.Split(b, []byte("\n"))
	for _, line := range lines[:len(lines)-1] {
		e, err := audit.Decode(line)
		if err != nil {
			return nil, fmt.Errorf("line %d, %.80q: %w", len(got)+1, line, err)
		}
		got = append(got, int(e.Origin.Sequence))
	}
	return got, nil
}

func stored(t testing.TB, path string) []int {
	t.Helper()
	b, err := content(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := sequences(b)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func numbers(first, last int) []int {
	var n []int
	for i := first; i <= last; i++ {
		n = append(n, i)
	}
	return n
}

// listing are the files in the store's directory, with the times of rotations as 1,
// 2 and so on, but for its lock.
func listing(t testing.TB, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	n := namesOf(path)
	var got []string
	stamps := map[string]int{}
	for _, e := range entries {
		name := e.Name()
		if m := n.form.FindStringSubmatch(name); m != nil {
			if stamps[m[1]] == 0 {
				stamps[m[1]] = len(stamps) + 1
			}
			name = strings.Replace(name, m[1], fmt.Sprint(stamps[m[1]]), 1)
		}
		if n.path(name) != n.lock() {
			got = append(got, name)
		}
	}
	return got
}

// eventually waits for what is done in the background.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within two minutes", what)
		}
	}
}

// clock is set by hand.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 28, 17, 45, 30, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// logBuffer takes a log from several goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }
