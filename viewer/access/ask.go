package access

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/singleflight"

	"github.com/caddy-audit-log/caddy-audit-log/internal/fetch"
	"github.com/caddy-audit-log/caddy-audit-log/viewer"
)

// The defaults of Ask.
const (
	DefaultTimeout = 2 * time.Second
	DefaultTTL     = time.Minute
)

const (
	// refusedFor is how long a no is believed.
	refusedFor = 10 * time.Second
	// maxAnswers bounds the answers that are remembered.
	maxAnswers = 10_000
	// maxAnswer bounds what is read of an answer, and maxValue a text of it, in bytes.
	maxAnswer = 1 << 20
	maxValue  = 128
	// maxAsking bounds the questions that are with the API at one time: whoever makes
	// credentials up must not bring it down through us.
	maxAsking = 32
	// openEvery is how often it is tried whether the API answers everybody.
	openEvery = time.Hour
)

// Ask is the API that says whether somebody is a member of an organization: it is asked
// for the organization by GET, with the visitor's own credential, and whoever gets it is.
type Ask struct {
	// URL has the parameter {slug} in its path, whose place the organization takes. A
	// redirect is not followed, and more than 1 MiB are not read.
	URL string
	// ID, Slug, Name, Plan and Role are where the answer has the organization's immutable id,
	// its slug, name and plan, and the visitor's role in it: names joined by dots. Default:
	// id, slug, name, plan, and no role.
	ID, Slug, Name, Plan, Role string
	// Roles are those that may read. Default: every member.
	Roles []string
	// TTL is how long a yes is believed. Default: DefaultTTL.
	TTL time.Duration
	// Timeout bounds one question. Default: DefaultTimeout.
	Timeout time.Duration

	prefix, suffix string
}

const slugParam = "{slug}"

// prepare checks it and sets the defaults. Errors do not repeat the URL, which may hold a
// credential.
func (a *Ask) prepare() error {
	u, err := url.Parse(strings.ReplaceAll(a.URL, slugParam, "slug"))
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
		return errors.New("members cannot be asked at that URL: give an http or https URL without a user name, as in https://api.example.com/v1/organizations/{slug}")
	}
	var ok bool
	if a.prefix, a.suffix, ok = strings.Cut(a.URL, slugParam); !ok || strings.Contains(a.suffix, slugParam) || strings.ContainsAny(a.prefix, "?#") || !strings.Contains(a.prefix, u.Host) {
		return errors.New("members cannot be asked at that URL: {slug} stands once in its path, for the organization")
	}
	for _, d := range []struct {
		at        *string
		byDefault string
	}{{&a.ID, "id"}, {&a.Slug, "slug"}, {&a.Name, "name"}, {&a.Plan, "plan"}} {
		if *d.at == "" {
			*d.at = d.byDefault
		}
	}
	if len(a.Roles) > 0 && a.Role == "" {
		return errors.New("members need a role that nothing tells: say where the answer has it, as in: role_at role")
	}
	if a.TTL == 0 {
		a.TTL = DefaultTTL
	}
	if a.Timeout == 0 {
		a.Timeout = DefaultTimeout
	}
	return nil
}

// organization is what the API says of one.
type organization struct{ id, slug, name, plan, role string }

// answers asks, and remembers what was said. It is safe for concurrent use.
type answers struct {
	ask    *Ask
	client *fetch.Client
	flight singleflight.Group
	asking chan struct{}

	mu sync.Mutex
	// Those who may and those who may not are apart, so that no number of refusals takes
	// anybody's yes away.
	granted, refused map[answerKey]answer
	tried            time.Time // when it was seen that the API does not answer everybody
}

type answerKey struct {
	sum  [32]byte
	slug string
}

type answer struct {
	o     organization
	err   error
	until time.Time
}

func newAnswers(a *Ask) *answers {
	return &answers{
		ask: a, granted: map[answerKey]answer{}, refused: map[answerKey]answer{}, asking: make(chan struct{}, maxAsking),
		client: fetch.New(fetch.Transport(16), maxAnswer, "1 MiB", "answers itself"),
	}
}

// of is what the API says to a credential. One question at a time is under way for each.
func (a *answers) of(ctx context.Context, c *credential, slug string) (organization, error) {
	k := answerKey{c.sum, slug}
	if got, ok := a.known(k); ok {
		return got.o, got.err
	}
	// Others may wait for the answer, too: who asks first may leave.
	ch := a.flight.DoChan(string(k.sum[:])+slug, func() (any, error) {
		if got, ok := a.known(k); ok { // it came between the look above and here
			return got.o, got.err
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.ask.Timeout)
		defer cancel()
		select {
		case a.asking <- struct{}{}:
			defer func() { <-a.asking }()
		case <-ctx.Done():
			return organization{}, ctx.Err()
		}
		return a.learn(ctx, k, c.authorization)
	})
	select {
	case r := <-ch:
		o, _ := r.Val.(organization)
		return o, r.Err
	case <-ctx.Done():
		return organization{}, ctx.Err()
	}
}

// known is what the API has said, if that is still believed.
func (a *answers) known(k answerKey) (got answer, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if got, ok = a.granted[k]; !ok {
		got, ok = a.refused[k]
	}
	return got, ok && time.Now().Before(got.until)
}

// learn asks. That the API could not be asked is not remembered.
func (a *answers) learn(ctx context.Context, k answerKey, authorization string) (organization, error) {
	o, err := a.get(ctx, k.slug, authorization)
	ttl := a.ask.TTL
	if err != nil {
		if _, denied := errors.AsType[*viewer.DeniedError](err); !denied {
			return o, err
		}
		ttl = refusedFor
	} else if err := a.closed(ctx, k.slug); err != nil {
		return organization{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.granted, k)
	known := a.granted
	if err != nil {
		known = a.refused
	}
	if len(known) >= maxAnswers {
		clear(known)
	}
	known[k] = answer{o, err, time.Now().Add(ttl)}
	return o, err
}

// errOpen means that the API's answer says nothing of who may read.
var errOpen = errors.New("asking whether somebody is a member: the API gives the organization to whoever asks, without any credential: configure a URL that only members are given")

// closed sees to it, every now and then, that the API does not answer those who have no
// credential: its yes would let everybody in.
func (a *answers) closed(ctx context.Context, slug string) error {
	a.mu.Lock()
	due := time.Since(a.tried) > openEvery
	a.mu.Unlock()
	if !due {
		return nil
	}
	r, err := a.send(ctx, slug, "")
	switch r.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
	case http.StatusOK:
		return errOpen
	default: // that it is closed would be a guess
		return fmt.Errorf("asking whether the API gives an organization to everybody: %w", err)
	}
	a.mu.Lock()
	a.tried = time.Now()
	a.mu.Unlock()
	return nil
}

func (a *answers) send(ctx context.Context, slug, authorization string) (fetch.Reply, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.ask.prefix+url.PathEscape(slug)+a.ask.suffix, nil)
	if err != nil {
		return fetch.Reply{}, fetch.ErrURL
	}
	req.Header.Set("Accept", "application/json")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	return a.client.Do(req)
}

func (a *answers) get(ctx context.Context, slug, authorization string) (o organization, err error) {
	r, err := a.send(ctx, slug, authorization)
	switch r.Status {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return o, viewer.ErrNoVisitor
	case http.StatusForbidden, http.StatusNotFound:
		return o, viewer.ErrNoPermission
	}
	if err != nil {
		return o, fmt.Errorf("asking whether somebody is a member: %w", err)
	}
	return a.ask.read(r.Body)
}

// read finds what is asked for in an answer. One that is no object is no yes.
func (a *Ask) read(body []byte) (o organization, err error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var object map[string]any
	if err := d.Decode(&object); err != nil || object == nil {
		return o, errors.New("asking whether somebody is a member: the answer is no JSON object")
	}
	for _, f := range []struct {
		to *string
		at string
	}{{&o.id, a.ID}, {&o.slug, a.Slug}, {&o.name, a.Name}, {&o.plan, a.Plan}, {&o.role, a.Role}} {
		if f.at != "" {
			*f.to = textAt(object, f.at)
		}
	}
	return o, nil
}

// textAt is the text or whole number at a path, empty if there is none.
func textAt(object map[string]any, path string) string {
	var at any = object
	for name := range strings.SplitSeq(path, ".") {
		object, _ := at.(map[string]any)
		at = object[name]
	}
	var s string
	switch v := at.(type) {
	case string:
		s = v
	case json.Number:
		s = v.String()
	}
	if len(s) > maxValue || !utf8.ValidString(s) {
		return ""
	}
	return s
}
