// Package attribution finds out to which organization a call belongs, which plan that
// has, and whether its caller is proven to be a member; and stamps the call's entry with
// that, and with how long it is kept. What it does not know it asks for, in the
// background and never on a call's way.
package attribution

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/internal/fetch"
)

// The defaults of Options.
const (
	DefaultTTL         = time.Hour
	DefaultNegativeTTL = 5 * time.Minute
	DefaultTimeout     = 2 * time.Second
	DefaultRate        = 10.0
)

const (
	// maxNames bounds the projects that are remembered, and the ids and the slugs of
	// organizations, each.
	maxNames = 100_000
	// pendingFor is how long an answer is waited for, from the call's arrival.
	pendingFor = 24 * time.Hour
)

// Options say what a Directory knows, whom it asks, and how often. What is zero is the
// default.
type Options struct {
	// Keep says how long entries are kept. Default: nobody says so, and entries get no
	// retention.
	Keep *audit.Keep
	// NeedsPlan says that plans are to be known also where no class depends on them.
	NeedsPlan bool
	// Static has the plans of organizations, by id or slug. These are not asked for.
	Static map[string]string
	// Projects says whose a project is, Organizations what an organization's plan is.
	// Default: nobody is asked.
	Projects, Organizations *Lookup
	// TTL is how long an answer is believed, and NegativeTTL that there is no such thing.
	// Default: 1 h and 5 min.
	TTL, NegativeTTL time.Duration
	// Timeout bounds one question. Default and maximum: 2 s.
	Timeout time.Duration
	// Rate bounds the questions in a second, over all. Default: 10.
	Rate float64
	// File is where what is known outlives a restart. Default: nowhere. Two Directories
	// must not have one file.
	File string
	// Transport carries the questions; New takes it, and Configure does not change it.
	// Default: one that keeps connections and goes through the environment's proxy.
	Transport http.RoundTripper
	// Logger is told what an operator should know. Default: nobody.
	Logger *slog.Logger
	// Observe is told of each question that ended, and how long the service took; zero
	// where none was asked. It must not wait, and must not call the Directory.
	Observe func(Kind, Result, time.Duration)
}

// Kind is what a question is about.
type Kind string

// The kinds.
const (
	KindProject      Kind = "project"
	KindOrganization Kind = "organization"
)

// Result is how a question ended.
type Result string

// The results.
const (
	ResultFound Result = "found"
	// ResultAbsent means that there is no such thing.
	ResultAbsent Result = "absent"
	ResultFailed Result = "failed"
	// ResultBusy means that too many others were waiting: it was not asked.
	ResultBusy Result = "busy"
)

// settings are the options, with the defaults filled in. They do not change.
type settings struct {
	Options
	keep             *audit.Keep
	ttl, negativeTTL int64 // in microseconds
	keepNeedsPlan    bool
	byOrganization   bool // some class depends on the organization
}

// sender asks a question; in tests it is another one.
type sender func(ctx context.Context, l *Lookup, name string) (answer, error)

// Directory knows to which organization a project belongs, and which plan an
// organization has. It is safe for concurrent use.
type Directory struct {
	file   string
	nonce  string
	client *fetch.Client
	send   sender

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	saving sync.Mutex // held while the file is written

	// moves are transfers that nobody has looked at yet. They have a lock of their own,
	// under which nothing else is done, so that a request never waits for anybody.
	moves struct {
		sync.Mutex
		list []move
		any  atomic.Bool
	}

	mu       sync.Mutex
	closed   bool
	set      *settings
	projects *table
	ids      *table
	slugs    *table
	members  members
	offers   map[string]int64 // projects that whoever has a token may take, and since when
	changes  []Change
	number   uint64 // of the last change
	dirty    bool   // the file is not what it should be

	limiter   limiter
	open      map[key]*question
	queue     []*question
	workers   int
	retries   map[key]retry
	health    map[Kind]*health
	schedule  schedule
	alarm     *time.Timer
	alarmTime int64
}

// New makes a Directory, and reads its file. A file that cannot be read or is damaged is
// a warning, and what is in it is learned anew; an error says what is wrong with the
// options.
func New(o Options) (*Directory, error) { return newDirectory(o, nil) }

func newDirectory(o Options, send sender) (*Directory, error) {
	d := &Directory{
		file: o.File, nonce: rand.Text(), client: newClient(o.Transport), send: send,
		projects: newTable(maxNames), ids: newTable(maxNames), slugs: newTable(maxNames),
		members: members{}, offers: map[string]int64{},
		open: map[key]*question{}, retries: map[key]retry{},
		health: map[Kind]*health{KindProject: {}, KindOrganization: {}},
	}
	if send == nil {
		d.send = func(ctx context.Context, l *Lookup, name string) (answer, error) {
			return l.ask(ctx, d.client, d.nonce, name)
		}
	}
	if err := d.Configure(o); err != nil {
		return nil, err
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	if err := d.load(); err != nil {
		d.set.Logger.Warn("reading whose projects are; it is learned anew", "file", d.file, "error", err)
	}
	return d, nil
}

// Configure gives a Directory other options: what it knows stays. File stays what it was.
// After an error nothing has changed.
func (d *Directory) Configure(o Options) error {
	s := &settings{Options: o, keep: o.Keep}
	var err error
	if s.Projects, err = o.Projects.prepared(); err != nil {
		return fmt.Errorf("asking whose a project is: %w", err)
	}
	if s.Projects != nil && s.Projects.Plan != "" {
		return errors.New("asking whose a project is: a plan is an organization's: give that its own lookup")
	}
	if s.Organizations, err = o.Organizations.prepared(); err != nil {
		return fmt.Errorf("asking for an organization's plan: %w", err)
	}
	for name, plan := range o.Static {
		if name == "" || plan == "" || !isValue(name) || !isValue(plan) {
			return errors.New("an organization's plan: both must be plain text, as in: acme enterprise")
		}
	}
	if o.TTL < 0 || o.NegativeTTL < 0 || o.Timeout < 0 || o.Rate < 0 || math.IsNaN(o.Rate) {
		return errors.New("a time or a rate is below zero: leave it away for the default")
	}
	if o.Timeout > DefaultTimeout {
		return fmt.Errorf("timeout %s: a question takes %s at most", o.Timeout, DefaultTimeout)
	}
	if o.Rate != 0 && (o.Rate < 0.01 || o.Rate > 10_000) {
		return fmt.Errorf("%g lookups per second: give from 0.01 to 10000", o.Rate)
	}
	orDefault(&s.TTL, DefaultTTL)
	orDefault(&s.NegativeTTL, DefaultNegativeTTL)
	orDefault(&s.Timeout, DefaultTimeout)
	orDefault(&s.Rate, DefaultRate)
	s.Static = maps.Clone(o.Static)
	s.ttl, s.negativeTTL = s.TTL.Microseconds(), s.NegativeTTL.Microseconds()
	if s.keep == nil {
		s.keep = &audit.Keep{}
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if s.Observe == nil {
		s.Observe = func(Kind, Result, time.Duration) {}
	}
	s.keepNeedsPlan = s.keep.NeedsPlan()
	for _, c := range s.keep.Classes {
		s.byOrganization = s.byOrganization || len(c.Organizations) > 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.set == nil || d.set.Rate != s.Rate {
		d.limiter = newLimiter(s.Rate)
	}
	if d.set != nil { // what was wrong with the old ones may be cured
		d.retries = map[key]retry{}
		for _, h := range d.health {
			h.pausedUntil = time.Time{}
		}
	}
	d.set = s
	return nil
}

func orDefault[T time.Duration | float64](v *T, byDefault T) {
	if *v == 0 {
		*v = byDefault
	}
}

// IsOwn reports whether the header NonceHeader of a request is that of a question of this
// Directory. Such a request has come back to where it was sent from and must be answered
// with 508, or each question would bring the next. It takes the same time for all values.
func (d *Directory) IsOwn(header string) bool {
	return subtle.ConstantTimeCompare([]byte(header), []byte(d.nonce)) == 1
}

// Plan is an organization's, by its id or slug, as it was known last; ok is false if it
// never was. It never waits. One that is older than the TTL is asked for in the
// background, so that the next one knows better.
func (d *Directory) Plan(organization string) (plan string, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if plan, ok := d.set.Static[organization]; ok {
		return plan, true
	}
	now := time.Now().UnixMicro()
	for _, t := range []*table{d.ids, d.slugs} {
		_, _, k := d.know(t, organization, now, now)
		r := t.get(organization)
		if r == nil || len(r.facts) == 0 {
			continue
		}
		f := &r.facts[len(r.facts)-1]
		if l := d.set.Organizations; k == unknown && l != nil {
			if k := d.nameOf(r, f, t == d.ids); l.Pattern(k.name) {
				d.ask(k)
			}
		}
		if f.Plan != "" {
			return f.Plan, true
		}
	}
	return "", false
}

// Close ends all questions and saves. After that nothing is asked any more.
func (d *Directory) Close() error {
	d.mu.Lock()
	d.closed = true
	if d.alarm != nil {
		d.alarm.Stop()
	}
	d.mu.Unlock()
	d.cancel()
	d.work.Wait()
	d.client.Close()
	return d.Save()
}
