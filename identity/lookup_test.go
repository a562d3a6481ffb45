package identity

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func question(token string) audit.Question {
	return audit.Question{
		Sum: sha256.Sum256([]byte(token)), Type: "robot", Token: token, Header: "Authorization", Value: "Bearer " + token,
	}
}

func profileService(t testing.TB) *Service {
	t.Helper()
	a, err := audit.NewProfile(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &Service{URL: "https://api.example.com/profile?key=hidden", Account: a}
}

// rig is a Lookups whose service is a function.
type rig struct {
	*Lookups
	asked   atomic.Int64
	mu      sync.Mutex
	results map[Result]int
	log     strings.Builder
}

func newRig(t testing.TB, s *Service, answer func(ctx context.Context, token string) ([]byte, audit.Reason, error)) *rig {
	t.Helper()
	r := &rig{results: map[Result]int{}}
	r.Lookups = New([]*Service{s}, Options{
		Logger: slog.New(slog.NewTextHandler(&r.log, nil)),
		Observe: func(result Result, _ time.Duration) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.results[result]++
		},
	})
	r.ask = func(ctx context.Context, _ *Service, q *audit.Question) ([]byte, audit.Reason, error) {
		r.asked.Add(1)
		return answer(ctx, q.Token)
	}
	return r
}

func (r *rig) count(result Result) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.results[result]
}

func (r *rig) waiting() int {
	r.Lookups.mu.Lock()
	defer r.Lookups.mu.Unlock()
	return len(r.open)
}

// told collects what calls are told.
type told struct {
	mu    sync.Mutex
	users []string
}

func (c *told) tell(id *audit.Identity, why audit.Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == nil {
		c.users = append(c.users, string(why))
		return
	}
	e := audit.Entry{}
	e.Learned(id, "")
	c.users = append(c.users, e.Actor.UserID)
}

func (c *told) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.users)
}

func person(id string) []byte { return []byte(`{"id":"` + id + `"}`) }

func TestOneQuestionServesEveryCallOfACredential(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, profileService(t), func(_ context.Context, token string) ([]byte, audit.Reason, error) {
			time.Sleep(300 * time.Millisecond)
			return person(token), "", nil
		})
		defer r.Close()
		var calls told
		for range 10 {
			p := r.Ask(question("ada"))
			if _, _, ok := p.Wait(t.Context()); ok {
				t.Error("a call waited although its site allows none")
			}
			p.Then(calls.tell)
		}
		synctest.Wait()
		if len(calls.all()) != 0 {
			t.Error("somebody was told before the service spoke")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := strings.Join(calls.all(), " "); got != strings.TrimSpace(strings.Repeat("ada ", 10)) || r.asked.Load() != 1 {
			t.Errorf("%d questions, told %q", r.asked.Load(), got)
		}
		// It is remembered, until it is too old.
		q := question("ada")
		if id, _ := r.Recall(&q); id == nil {
			t.Error("it is forgotten")
		}
		p := r.Ask(q)
		if id, _, ok := p.Wait(t.Context()); !ok || id == nil || r.asked.Load() != 1 {
			t.Error("it is asked again")
		}
		p.Then(calls.tell)
		synctest.Wait()
		if len(calls.all()) != 11 {
			t.Error("who comes late is told nothing")
		}
		time.Sleep(defaultMaxAge)
		if id, why := r.Recall(&q); id != nil || why != "" {
			t.Error("it is remembered for ever")
		}
	})
}

func TestAnAnswerIsHeldNoLongerThanTheSiteAllows(t *testing.T) {
	for _, c := range []struct {
		takes, wait, waited time.Duration
		ok                  bool
	}{
		{100 * time.Millisecond, 200 * time.Millisecond, 100 * time.Millisecond, true},
		{300 * time.Millisecond, 200 * time.Millisecond, 200 * time.Millisecond, false},
		{300 * time.Millisecond, 0, 0, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := profileService(t)
			s.Wait = c.wait
			r := newRig(t, s, func(_ context.Context, token string) ([]byte, audit.Reason, error) {
				time.Sleep(c.takes)
				return person(token), "", nil
			})
			defer r.Close()
			began := time.Now()
			_, _, ok := r.Ask(question("ada")).Wait(t.Context())
			if took := time.Since(began); ok != c.ok || took != c.waited {
				t.Errorf("%+v: waited %s, %v", c, took, ok)
			}
			// Who has left is not waited for.
			gone, cancel := context.WithCancel(t.Context())
			cancel()
			began = time.Now()
			r.Ask(question("eve")).Wait(gone)
			if took := time.Since(began); took != 0 {
				t.Errorf("waited %s for a client that has left", took)
			}
			time.Sleep(time.Second)
		})
	}
}

func TestANoIsRememberedBriefly(t *testing.T) {
	for _, c := range []struct {
		name   string
		body   string
		why    audit.Reason
		err    error
		want   audit.Reason
		result Result
		keeps  time.Duration
	}{
		{"not valid", "", audit.ReasonInactive, nil, audit.ReasonInactive, ResultInactive, refusedFor},
		{"nobody", "{}", "", nil, audit.ReasonNobody, ResultNobody, refusedFor},
		{"no answer", "", "", errors.New("it answered 500"), audit.ReasonLookupFailed, ResultFailed, failedFor},
		{"no JSON", "<html>", "", nil, audit.ReasonLookupFailed, ResultFailed, failedFor},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, profileService(t), func(context.Context, string) ([]byte, audit.Reason, error) {
				return []byte(c.body), c.why, c.err
			})
			defer r.Close()
			var calls told
			q := question("ada")
			r.Ask(q).Then(calls.tell)
			synctest.Wait()
			if len(calls.all()) != 1 || calls.all()[0] != string(c.want) || r.count(c.result) != 1 {
				t.Errorf("%s: told %v, %v", c.name, calls.all(), r.count(c.result))
			}
			time.Sleep(c.keeps)
			if id, why := r.Recall(&q); id != nil || why != c.want {
				t.Errorf("%s: it is forgotten: %q", c.name, why)
			}
			time.Sleep(time.Millisecond)
			if _, why := r.Recall(&q); why != "" {
				t.Errorf("%s: it is remembered for too long", c.name)
			}
		})
	}
}

func TestAServiceThatHangsHoldsNothingUpAndIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var works atomic.Bool
		r := newRig(t, profileService(t), func(ctx context.Context, token string) ([]byte, audit.Reason, error) {
			if works.Load() {
				return person(token), "", nil
			}
			<-ctx.Done()
			return nil, "", ctx.Err()
		})
		defer r.Close()
		var calls told
		began := time.Now()
		for n := range 4 * maxWaiting {
			r.Ask(question(fmt.Sprint(n))).Then(calls.tell)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("asking took %s", took)
		}
		synctest.Wait()
		if n := r.asked.Load(); n != maxAsking {
			t.Errorf("%d questions are with the service", n)
		}
		if r.waiting() != maxWaiting || r.count(ResultBusy) != 3*maxWaiting {
			t.Errorf("%d wait, %v", r.waiting(), r.count(ResultBusy))
		}
		time.Sleep(time.Duration(maxWaiting/maxAsking+1) * defaultTimeout)
		synctest.Wait()
		if len(calls.all()) != 4*maxWaiting || r.waiting() != 0 {
			t.Errorf("%d of %d calls were told", len(calls.all()), 4*maxWaiting)
		}
		works.Store(true)
		r.Ask(question("ada")).Then(calls.tell)
		synctest.Wait()
		text := r.log.String()
		if strings.Count(text, "\n") != 2 || !strings.Contains(text, "failures=256") || strings.Contains(text, "hidden") {
			t.Errorf("the log says\n%s", text)
		}
	})
}

func TestOneAnswerIsWaitedForByABoundedNumberOfCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, profileService(t), func(_ context.Context, token string) ([]byte, audit.Reason, error) {
			time.Sleep(time.Second / 2)
			return person(token), "", nil
		})
		defer r.Close()
		var calls told
		for range 2 * maxCalls {
			r.Ask(question("ada")).Then(calls.tell)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		busy := 0
		for _, u := range calls.all() {
			if u == string(audit.ReasonLookupBusy) {
				busy++
			}
		}
		if len(calls.all()) != 2*maxCalls || busy != maxCalls {
			t.Errorf("%d told, %d of them that it is busy", len(calls.all()), busy)
		}
	})
}

func TestAfterCloseNobodyIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, profileService(t), func(ctx context.Context, _ string) ([]byte, audit.Reason, error) {
			<-ctx.Done()
			return nil, "", ctx.Err()
		})
		var calls told
		p := r.Ask(question("ada"))
		p.Then(calls.tell)
		synctest.Wait()
		r.Close()
		p.Then(calls.tell)
		synctest.Wait()
		if len(calls.all()) != 0 || r.log.Len() != 0 {
			t.Errorf("told %v, logged %s", calls.all(), r.log.String())
		}
		if r.Ask(question("eve")) != nil {
			t.Error("a question is asked after the end")
		}
	})
}

func TestTheMemoryIsBoundedAndForgetsTheOldestFirst(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	m := newMemory[int](100)
	for n := range 1000 {
		m.put(sha256.Sum256([]byte{byte(n), byte(n >> 8)}), n, now.Add(time.Duration(n)*time.Second), now)
	}
	if len(m.values) != 100 {
		t.Errorf("%d are remembered", len(m.values))
	}
	old := 0
	for _, r := range m.values {
		if r.value < 500 {
			old++
		}
	}
	if old > 10 {
		t.Errorf("%d of 100 are from the older half", old)
	}
}
