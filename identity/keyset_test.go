package identity

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/internal/jwttest"
)

// script is a server of keys in a test's own time.
type script struct {
	began time.Time

	mu    sync.Mutex
	reads []time.Duration
	set   []byte
	age   time.Duration
	err   error
	log   *slog.Logger // nil drops what is said
}

func (s *script) logger() *slog.Logger {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.log
}

// now changes what the server answers.
func (s *script) now(set []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set, s.err = set, err
}

// seen is when it was read.
func (s *script) seen() []time.Duration {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.reads)
}

func (s *script) start(ctx context.Context) *keySet {
	k := newKeySet("https://auth.example.com/keys", s.logger)
	s.began = time.Now()
	k.get = func(context.Context) ([]byte, time.Duration, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.reads = append(s.reads, time.Since(s.began))
		return s.set, s.age, s.err
	}
	go k.run(ctx)
	synctest.Wait()
	return k
}

func TestKeysAreReadAsOftenAsTheirAgeSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := &script{set: jwttest.Keys().Set("ec"), age: 10 * time.Minute}
		k := s.start(ctx)
		first := k.current.Load()
		time.Sleep(35 * time.Minute)
		synctest.Wait()
		if reads := s.seen(); len(reads) != 4 {
			t.Errorf("read at %v", reads)
		}
		if k.current.Load() != first {
			t.Error("a set that did not change is another one")
		}
		cancel()
		<-k.done
	})
}

func TestAnUnknownKeyIsLookedForOnceAMinuteAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := &script{set: jwttest.Keys().Set("ec"), age: time.Hour}
		k := s.start(ctx)
		for range 10 * 60 * 10 { // ten minutes of ten calls a second
			k.want()
			time.Sleep(100 * time.Millisecond)
		}
		if reads := s.seen(); len(reads) < 10 || len(reads) > 11 {
			t.Errorf("%d readings in ten minutes: %v", len(reads), reads)
		}
		time.Sleep(30 * time.Minute)
		k.want()
		reads := s.seen()
		if last := reads[len(reads)-1]; time.Since(s.began)-last > time.Second {
			t.Error("a new key is not looked for at once when the last reading is long ago")
		}
		cancel()
		<-k.done
	})
}

func TestWhileTheServerIsDownTheLastKeysStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := &script{err: errors.New("down"), age: time.Minute}
		k := s.start(ctx)
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		if reads := s.seen(); len(reads) < 6 || len(reads) > 8 { // after 5, 10, 20, 40, 60, 60 … seconds
			t.Errorf("read at %v", reads)
		}
		s.now(jwttest.Keys().Set("ec"), nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if k.size() != 1 {
			t.Fatalf("%d keys", k.size())
		}
		s.now(nil, errors.New("down again"))
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		if k.size() != 1 {
			t.Errorf("%d keys", k.size())
		}
		s.now([]byte(`{"keys":[]}`), nil) // the issuer has withdrawn them
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if k.size() != 0 {
			t.Errorf("%d keys", k.size())
		}
		cancel()
		<-k.done
	})
}

// A reload closes the logger that the reading began with.
func TestWhatIsSaidGoesToTheLoggerOfTheMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var first, second strings.Builder
		s := &script{err: errors.New("down"), age: time.Minute, log: slog.New(slog.NewTextHandler(&first, nil))}
		k := s.start(ctx)
		s.mu.Lock()
		s.log = slog.New(slog.NewTextHandler(&second, nil))
		s.mu.Unlock()
		s.now(jwttest.Keys().Set("ec"), nil)
		time.Sleep(time.Minute)
		cancel()
		<-k.done
		if text := first.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "down") {
			t.Errorf("the first logger has %q", text)
		}
		if text := second.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "can be read again") {
			t.Errorf("the second logger has %q", text)
		}
	})
}

// A reload starts the sources of the next configuration before it stops those of
// the last.
func TestOneReadingServesAllSourcesOfAURLAndEndsWithTheLast(t *testing.T) {
	var reads atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reads.Add(1)
		_, _ = w.Write(jwttest.Keys().Set("ec"))
	}))
	defer server.Close()
	before, after := NewKeySource(server.URL), NewKeySource(server.URL)
	if err := before.Read(t.Context()); err == nil || before.Loaded() {
		t.Error("keys are read before the start")
	}
	before.Start(slog.Default)
	for !before.Loaded() {
		time.Sleep(time.Millisecond)
	}
	after.Start(slog.Default)
	if !after.Loaded() {
		t.Error("the second source does not go on with the keys that are there")
	}
	before.Stop()
	if n := len(keySets.sets); n != 1 {
		t.Errorf("%d sets are read, and one is used", n)
	}
	after.Stop()
	if n := len(keySets.sets); n != 0 {
		t.Errorf("%d sets are read, and none is used", n)
	}
	if !before.Loaded() || !after.Loaded() {
		t.Error("calls in flight have no keys")
	}
	if n := reads.Load(); n != 1 {
		t.Errorf("the keys were read %d times", n)
	}
}

func TestHowLongAnAnswerHolds(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"":                              10 * time.Minute,
		"max-age=600":                   10 * time.Minute,
		"public, max-age=3600":          time.Hour,
		"Public,Max-Age=\"7200\"":       2 * time.Hour,
		"max-age=0":                     time.Minute,
		"max-age=-5":                    time.Minute,
		"max-age=99999999":              24 * time.Hour,
		"max-age=99999999999999999999":  10 * time.Minute,
		"max-age=x":                     10 * time.Minute,
		"no-store":                      time.Minute,
		"no-cache, max-age=3600":        time.Minute,
		"stale-while-revalidate=5, foo": 10 * time.Minute,
	} {
		if got := maxAge(http.Header{"Cache-Control": {header}}); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}
