// Package identity finds out whose a credential is, once for each, and remembers
// it: a Verifier by an issuer's signature, with keys that a KeySource has read,
// and Lookups, where no signature proves it, by a service that knows. Nothing
// here refuses a call, and nothing makes one wait.
package identity

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

const (
	// maxKnown bounds the credentials that are remembered.
	maxKnown = 10_000
	// maxAsking bounds the questions that are with the services at once, and
	// maxWaiting those that wait for that. Beyond it a question is not asked.
	maxAsking  = 16
	maxWaiting = 256
	// maxCalls bounds the calls that wait for one answer.
	maxCalls = 100

	// refusedFor is how long a service's no is remembered, and failedFor that it
	// gave no answer.
	refusedFor = 30 * time.Second
	failedFor  = 5 * time.Second
)

// Result is how a question ended.
type Result string

// The results.
const (
	ResultFound    Result = "found"
	ResultInactive Result = "inactive"
	ResultNobody   Result = "nobody"
	ResultFailed   Result = "failed"
	ResultBusy     Result = "busy"
	ResultCached   Result = "cached"
)

// Options are what Lookups needs from its surroundings. Each may be left out.
type Options struct {
	Logger *slog.Logger
	// Observe is told of each question that ended, and how long its service
	// took; zero where none was asked.
	Observe func(Result, time.Duration)
}

// Lookups asks the services of a site. It is safe for concurrent use.
type Lookups struct {
	services []*Service
	log      *slog.Logger
	observe  func(Result, time.Duration)
	ask      func(ctx context.Context, s *Service, q *audit.Question) (body []byte, why audit.Reason, err error)

	asking chan struct{} // holds one for each question that is with a service
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	known  memory[answer]
	open   map[audit.TokenSum]*Pending
}

// answer is what is remembered: an identity, or why there is none.
type answer struct {
	id  *audit.Identity
	why audit.Reason
}

// New makes a site's lookups. The first service that serves a credential's type
// is asked about it.
func New(services []*Service, o Options) *Lookups {
	l := &Lookups{
		services: services, log: o.Logger, observe: o.Observe,
		asking: make(chan struct{}, maxAsking), known: newMemory[answer](maxKnown), open: map[audit.TokenSum]*Pending{},
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.observe == nil {
		l.observe = func(Result, time.Duration) {}
	}
	l.ask = func(ctx context.Context, s *Service, q *audit.Question) ([]byte, audit.Reason, error) {
		return s.ask(ctx, q)
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Close ends all questions, and returns when nobody is told anything any more.
func (l *Lookups) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cancel()
	l.work.Wait()
}

// Recall implements audit.Memory.
func (l *Lookups) Recall(q *audit.Question) (*audit.Identity, audit.Reason) {
	l.mu.Lock()
	a, ok := l.known.get(q.Sum, time.Now())
	l.mu.Unlock()
	if !ok {
		return nil, ""
	}
	l.observe(ResultCached, 0)
	return a.id, a.why
}

// Pending is a question on its way.
type Pending struct {
	service *Service
	done    chan struct{} // closed when answer is there
	answer  answer
	calls   []func(*audit.Identity, audit.Reason) // guarded by Lookups.mu
	waiting int
	lookups *Lookups
}

// Ask asks whose a credential is, or joins the question if it is on its way. It
// returns nil if no service serves the credential, and after Close. It never waits.
func (l *Lookups) Ask(q audit.Question) *Pending {
	i := slices.IndexFunc(l.services, func(s *Service) bool { return s.serves(&q) })
	if i < 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.open[q.Sum]; p != nil {
		if p.waiting++; p.waiting > maxCalls {
			return l.busy()
		}
		return p
	}
	if a, ok := l.known.get(q.Sum, time.Now()); ok {
		return l.answered(a)
	}
	if l.closed {
		return nil
	}
	if len(l.open) >= maxWaiting {
		return l.busy()
	}
	p := &Pending{service: l.services[i], done: make(chan struct{}), waiting: 1, lookups: l}
	l.open[q.Sum] = p
	l.work.Go(func() { l.run(p, &q) })
	return p
}

func (l *Lookups) busy() *Pending {
	l.observe(ResultBusy, 0)
	return l.answered(answer{why: audit.ReasonLookupBusy})
}

func (l *Lookups) answered(a answer) *Pending {
	p := &Pending{done: make(chan struct{}), answer: a, lookups: l}
	close(p.done)
	return p
}

// Wait returns what the service said, if it says it within the time that may be
// waited for it, and before ctx ends.
func (p *Pending) Wait(ctx context.Context) (id *audit.Identity, why audit.Reason, ok bool) {
	select {
	case <-p.done:
		return p.answer.id, p.answer.why, true
	default:
	}
	if p.service.Wait <= 0 {
		return nil, "", false
	}
	timer := time.NewTimer(p.service.Wait)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.answer.id, p.answer.why, true
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil, "", false
}

// Then calls tell with what the service said, once, from a goroutine of its own,
// unless Close comes first. It never waits.
func (p *Pending) Then(tell func(*audit.Identity, audit.Reason)) {
	l := p.lookups
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-p.done:
		if !l.closed {
			l.work.Go(func() { tell(p.answer.id, p.answer.why) })
		}
	default:
		p.calls = append(p.calls, tell)
	}
}

// run asks the service and tells everybody who waits.
func (l *Lookups) run(p *Pending, q *audit.Question) {
	began := time.Now()
	a, result := l.answer(p.service, q)
	l.observe(result, time.Since(began))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known.put(q.Sum, a, time.Now().Add(p.service.keep(a)), time.Now())
	delete(l.open, q.Sum)
	p.answer = a
	close(p.done)
	if l.closed {
		return
	}
	for _, tell := range p.calls {
		l.work.Go(func() { tell(a.id, a.why) })
	}
}

func (l *Lookups) answer(s *Service, q *audit.Question) (answer, Result) {
	select {
	case l.asking <- struct{}{}:
		defer func() { <-l.asking }()
	case <-l.ctx.Done():
		return answer{why: audit.ReasonLookupFailed}, ResultFailed
	}
	ctx, cancel := context.WithTimeout(l.ctx, s.timeout())
	defer cancel()
	body, why, err := l.ask(ctx, s, q)
	var id *audit.Identity
	if err == nil && why == "" {
		id, why = s.Account.Identity(body, time.Now().Add(s.maxAge()))
	}
	if err != nil {
		why = audit.ReasonLookupFailed
	}
	if l.ctx.Err() == nil {
		s.health(l.log, why == audit.ReasonLookupFailed, err)
	}
	switch {
	case id != nil:
		return answer{id: id}, ResultFound
	case why == audit.ReasonInactive:
		return answer{why: why}, ResultInactive
	case why == audit.ReasonNobody:
		return answer{why: why}, ResultNobody
	default:
		return answer{why: audit.ReasonLookupFailed}, ResultFailed
	}
}

// Interface guard
var _ audit.Memory = (*Lookups)(nil)
