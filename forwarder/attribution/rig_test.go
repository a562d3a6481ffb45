package attribution

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/internal/fetch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	ref  = "abcdefghijklmnopqrst"
	day  = 24 * time.Hour
	user = "u-1"
)

func term(t testing.TB, s string) audit.Term {
	t.Helper()
	v, err := audit.ParseTerm(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// keepByPlan keeps nobody's calls 30 days, those of enterprises 7 years, others 400 days.
func keepByPlan(t testing.TB) *audit.Keep {
	return &audit.Keep{
		Default: term(t, "400d"), Unattributed: term(t, "30d"),
		Classes: []audit.KeepClass{
			{Name: "enterprise", Term: term(t, "7y"), Plans: []string{"enterprise"}},
			{Name: "free", Term: term(t, "60d"), Plans: []string{"free"}},
		},
	}
}

// platform is what the services know, and what they were asked.
type platform struct {
	mu       sync.Mutex
	owner    map[string]answer // by project
	plan     map[string]answer // by id or slug
	takes    time.Duration
	fails    error
	asked    []string
	askedAt  []time.Time
	inFlight int
	most     int
}

func newPlatform() *platform {
	return &platform{
		owner: map[string]answer{ref: {id: "o-1", slug: "acme"}},
		plan:  map[string]answer{"acme": {id: "o-1", slug: "acme", plan: "enterprise"}, "other": {id: "o-2", slug: "other", plan: "free"}},
	}
}

func (p *platform) send(ctx context.Context, l *Lookup, name string) (answer, error) {
	p.mu.Lock()
	p.asked, p.askedAt = append(p.asked, name), append(p.askedAt, time.Now())
	p.inFlight++
	p.most = max(p.most, p.inFlight)
	takes, err := p.takes, p.fails
	m := p.owner
	if l.Plan != "" {
		m = p.plan
	}
	a, ok := m[name]
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.inFlight--
		p.mu.Unlock()
	}()
	if takes > 0 {
		timer := time.NewTimer(takes)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return answer{}, fetch.NoAnswer(ctx.Err())
		}
	}
	switch {
	case err != nil:
		return answer{}, err
	case !ok:
		return answer{}, errAbsent
	}
	return a, nil
}

func (p *platform) set(change func(p *platform)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *platform) questions() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.asked)
}

var errDown = errors.New("it answered 500")

// rig is a Directory whose services are a platform.
type rig struct {
	*Directory
	*platform
	t   testing.TB
	log *log
}

type log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *log) count(text string) int { return strings.Count(l.String(), text) }

func newRig(t testing.TB, p *platform, change ...func(*Options)) *rig {
	t.Helper()
	r := &rig{platform: p, t: t, log: new(log)}
	o := Options{Keep: keepByPlan(t), Logger: slog.New(slog.NewTextHandler(r.log, nil))}
	o.Projects, o.Organizations = Supabase("https://api.example.com", nil)
	for _, c := range change {
		c(&o)
	}
	d, err := newDirectory(o, p.send)
	if err != nil {
		t.Fatal(err)
	}
	r.Directory = d
	return r
}

// call is a call of a verified user that succeeded, arrived now.
func call(change ...func(*audit.Entry)) *audit.Entry {
	e := &audit.Entry{
		ID: audit.NewID(), Revision: audit.RevisionAnswer, Timestamp: time.Now().UnixMicro(), SchemaVersion: audit.SchemaVersion,
		Action:  audit.Action{Code: "v1-get-project", Method: "GET", Route: "/v1/projects/{ref}", Status: 200, StatusSource: audit.StatusWritten},
		Actor:   audit.Actor{TokenType: audit.TokenJWT, Verification: audit.VerificationSignature, UserID: user},
		Outcome: audit.OutcomeSuccess, Policy: audit.Policy{Rule: "default", Level: audit.LevelMetadata},
	}
	for _, c := range change {
		c(e)
	}
	return e
}

func project(name string) func(*audit.Entry) {
	return func(e *audit.Entry) { e.ProjectRef = name }
}

func organization(slug string) func(*audit.Entry) {
	return func(e *audit.Entry) { e.OrganizationSlug = slug }
}

func by(userID string) func(*audit.Entry) {
	return func(e *audit.Entry) { e.Actor.UserID = userID }
}

func at(t time.Time) func(*audit.Entry) {
	return func(e *audit.Entry) { e.Timestamp = t.UnixMicro() }
}

func status(s int) func(*audit.Entry) {
	return func(e *audit.Entry) { e.Action.Status, e.Outcome = s, audit.OutcomeOf(s) }
}

func unverified(e *audit.Entry) {
	e.Actor = audit.Actor{TokenType: audit.TokenUnknown, TokenHash: "h-1", Verification: audit.VerificationNone}
}

// say is a stamp in a line.
func say(s audit.Stamp) string {
	words := []string{s.OrganizationID, s.OrganizationSlug, string(s.Membership), s.Retention.Class, s.Retention.Plan}
	for i := range words {
		if words[i] == "" {
			words[i] = "-"
		}
	}
	if s.Pending {
		words = append(words, "pending")
	}
	return strings.Join(words, " ")
}

func (r *rig) stamped(e *audit.Entry, want string) {
	r.t.Helper()
	if got := say(r.Stamp(e)); got != want {
		r.t.Errorf("stamped %q, want %q", got, want)
	}
}

func (r *rig) close() {
	r.t.Helper()
	if err := r.Close(); err != nil {
		r.t.Error(err)
	}
}

// patience is for how long await waits.
const patience = 10 * time.Second

// await is a stamp for good, which the answer is waited for.
func await(ctx context.Context, d *Directory, e *audit.Entry) audit.Stamp {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d.Await(ctx, e)
	return d.Settled(e)
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
