package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/internal/fetch"
)

const (
	defaultTimeout = time.Second
	defaultMaxAge  = 5 * time.Minute
	// maxAnswer bounds what is read of a service's answer, in bytes.
	maxAnswer = 64 << 10
)

// Service knows whose a credential is. Its fields do not change once it is used.
type Service struct {
	// URL is where it is asked.
	URL string
	// Account reads its answers.
	Account *audit.Account
	// Introspects says that it is asked by RFC 7662, as the client that is
	// named here. Else it is a profile, which is asked with the caller's own
	// credential, presented as the caller did.
	Introspects            bool
	ClientID, ClientSecret string
	// Types are the token types that it is asked about. None means all that can
	// be asked.
	Types []audit.TokenType
	// Wait is how long an answer may be held for it; zero is not at all, and
	// then what it says comes as a further revision.
	Wait time.Duration
	// Timeout bounds one question. Default: 1 s.
	Timeout time.Duration
	// MaxAge is how long what it says is remembered, at most. Default: 5 min.
	MaxAge time.Duration

	mu       sync.Mutex
	failures int // since it last answered
	since    time.Time
}

// String keeps the client's secret out of logs and errors.
func (s *Service) String() string { return "service " + WithoutQuery(s.URL) }

// GoString keeps it out of %#v too.
func (s *Service) GoString() string { return s.String() }

func (s *Service) timeout() time.Duration { return orDefault(s.Timeout, defaultTimeout) }
func (s *Service) maxAge() time.Duration  { return orDefault(s.MaxAge, defaultMaxAge) }

func orDefault(d, byDefault time.Duration) time.Duration {
	if d <= 0 {
		return byDefault
	}
	return d
}

// serves reports whether the service is the one to ask.
func (s *Service) serves(q *audit.Question) bool {
	if s.Introspects && q.Token == "" {
		return false // it takes tokens, not passwords
	}
	return len(s.Types) == 0 || slices.Contains(s.Types, q.Type)
}

// keep is how long an answer is remembered.
func (s *Service) keep(a answer) time.Duration {
	switch {
	case a.id != nil:
		return time.Until(a.id.Until())
	case a.why == audit.ReasonLookupFailed:
		return failedFor
	default:
		return min(refusedFor, s.maxAge())
	}
}

// serviceFetcher keeps connections: a busy site asks often.
var serviceFetcher = fetch.New(fetch.Transport(maxAsking), maxAnswer, "64 KiB", "answers itself")

// ask sends the question. The reason is the service's no, the error why there is
// no answer.
func (s *Service) ask(ctx context.Context, q *audit.Question) (body []byte, why audit.Reason, err error) {
	req, err := s.request(ctx, q)
	if err != nil {
		return nil, "", fetch.ErrURL
	}
	req.Header.Set("Accept", "application/json")
	r, err := serviceFetcher.Do(req)
	if r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden {
		if !s.Introspects {
			return nil, audit.ReasonInactive, nil
		}
		err = fmt.Errorf("%w: it does not know the client that asks; check client", err)
	}
	return r.Body, "", err
}

func (s *Service) request(ctx context.Context, q *audit.Question) (*http.Request, error) {
	if s.Introspects {
		form := url.Values{"token": {q.Token}, "token_type_hint": {"access_token"}}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, strings.NewReader(form.Encode()))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if s.ClientID != "" {
			// RFC 6749, section 2.3.1: both are form-encoded first.
			req.SetBasicAuth(url.QueryEscape(s.ClientID), url.QueryEscape(s.ClientSecret))
		} else if s.ClientSecret != "" {
			req.Header.Set("Authorization", "Bearer "+s.ClientSecret)
		}
		return req, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		return nil, err
	}
	switch {
	case q.Header != "":
		req.Header.Set(q.Header, q.Value)
	case q.Place.Kind == audit.PlaceCookie:
		req.Header.Set("Cookie", q.Place.Name+"="+q.Value) // as it was, whatever Go thinks of it
	default:
		query := req.URL.Query()
		query.Set(q.Place.Name, q.Value)
		req.URL.RawQuery = query.Encode()
	}
	return req, nil
}

// health says once that the service gives no answers, and once that it does
// again.
func (s *Service) health(log *slog.Logger, failed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case failed:
		if s.failures++; s.failures > 1 {
			return
		}
		s.since = time.Now()
		if err == nil {
			err = errors.New("its answer is none: it must be a JSON object, and of RFC 7662 it must have active")
		}
		log.Warn("asking whose a credential is; until it succeeds, entries have the credential and nobody's name",
			"service", WithoutQuery(s.URL), "error", err)
	case s.failures > 0:
		log.Info("a service says again whose credentials are", "service", WithoutQuery(s.URL),
			"failures", s.failures, "after", time.Since(s.since).Round(time.Millisecond))
		s.failures = 0
	}
}

// WithoutQuery is a URL as it may stand in a log: its query may hold a key.
func WithoutQuery(address string) string {
	plain, _, _ := strings.Cut(address, "?")
	return plain
}
