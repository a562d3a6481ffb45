package buffer

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// said is what a buffer has logged.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *said) logger() *slog.Logger { return slog.New(slog.NewTextHandler(s, nil)) }

func (s *said) count(message string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.text.String(), fmt.Sprintf("msg=%q", message))
}

// Segments are tried to be removed after each commit, and the log is not told of each.
func TestThatDrainedSegmentsCannotBeRemovedIsToldOnceAndThatTheyCanAgain(t *testing.T) {
	const begins, ends = "removing drained segments; until it succeeds, they take room and are tried again", "drained segments can be removed again"
	var log said
	var healed atomic.Bool
	var tried atomic.Int32
	failAt(t, func(name string) error {
		if name != "unlink" || healed.Load() {
			return nil
		}
		tried.Add(1)
		return errors.New("planted")
	})
	b := open(t, newDir(t), Options{SegmentSize: 64 << 10, Logger: log.logger()})
	b.Hold("store")
	put := func(n int) {
		for range n {
			if err := b.Append(fmt.Appendf(nil, "%01000d", 0)); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(200)
	b.Advance("store", 200, 200, 0, 0)
	awaitTrue(t, "it is tried again and again", func() bool { put(1); return tried.Load() > 20 })
	if n := log.count(begins); n != 1 {
		t.Errorf("it is told %d times", n)
	}
	healed.Store(true)
	awaitTrue(t, "they are removed", func() bool { put(1); return log.count(ends) > 0 })
	put(50)
	if n := log.count(ends); n != 1 || log.count(begins) != 1 {
		t.Errorf("that it is over is told %d times, and that it began %d", n, log.count(begins))
	}
}

func TestThatCallsPassIsToldOnceAndThatTheyAreRecordedAgain(t *testing.T) {
	const begins, ends = "calls pass unrecorded; a gap will say how many", "calls are recorded again; a gap says how many passed"
	var log said
	b := open(t, newDir(t), Options{OnFault: Pass, MaxWait: 50 * time.Millisecond, Gap: (&gaps{}).entry, Logger: log.logger()})
	heal := stuck(t)
	passed := 0
	for range 40 {
		c, err := b.Admit(100, Caller{Known: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Begin([]byte("intent")); err != nil {
			t.Fatal(err)
		}
		if c.Passed() {
			passed++
		}
		c.Release()
	}
	if passed == 0 || log.count(begins) != 1 || log.count(ends) != 0 {
		t.Errorf("%d passed, %d lines say that they do, %d that it is over", passed, log.count(begins), log.count(ends))
	}
	heal()
	awaitTrue(t, "the log says that it is over", func() bool { return log.count(ends) > 0 })
	if log.count(begins) != 1 || log.count(ends) != 1 {
		t.Errorf("%d lines say that calls pass, %d that it is over", log.count(begins), log.count(ends))
	}
	if want := fmt.Sprintf("passed=%d", passed); !strings.Contains(log.text.String(), want) {
		t.Errorf("the log lacks %s", want)
	}
}

// Each second it is tried again.
func TestAMarkerThatCannotBeMadeAnewIsToldOnce(t *testing.T) {
	t.Parallel()
	const begins, ends = "making the marker of passed calls anew; it is tried again each second", "the marker of passed calls was deleted or replaced behind our back; it is made anew"
	var log said
	dir := newDir(t)
	b := open(t, dir, Options{Logger: log.logger()})
	path := filepath.Join(dir, markerName)
	b.marker.mu.Lock() // or it could be made anew between the two
	err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
	b.marker.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	awaitTrue(t, "it is told", func() bool { return log.count(begins) > 0 })
	time.Sleep(2*tickEvery + tickEvery/2) // two more attempts
	if n := log.count(begins); n != 1 {
		t.Errorf("it is told %d times", n)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	awaitTrue(t, "it is made", func() bool { return log.count(ends) > 0 })
	shut(t, b)
	if log.count(begins) != 1 || log.count(ends) != 1 {
		t.Errorf("%d lines say that it cannot be made, %d that it is", log.count(begins), log.count(ends))
	}
}
