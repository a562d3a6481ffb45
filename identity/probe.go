package identity

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// probeToken is a credential that nobody has.
const probeToken = "caddy-audit-doctor"

// CountKeys reads the key set at a URL once, as a KeySource does, within its time and
// bounds. It says how many of the keys can verify a signature and how many cannot.
func CountKeys(ctx context.Context, address string) (keys, leftOut int, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchWithin)
	defer cancel()
	set, _, err := fetchKeys(ctx, address)
	if err != nil {
		return 0, 0, err
	}
	list, leftOut, err := audit.ParseKeys(set)
	return len(list), leftOut, err
}

// Probe asks once about a credential that nobody has. The error says why the service gave
// no answer, or that what it answered is none.
func (s *Service) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout())
	defer cancel()
	q := &audit.Question{Type: audit.TokenUnknown, Token: probeToken, Header: "Authorization", Value: "Bearer " + probeToken}
	body, why, err := s.ask(ctx, q)
	switch {
	case err != nil:
		return err
	case !s.Introspects && why == audit.ReasonInactive:
		return nil
	case !s.Introspects:
		return errors.New("it knows somebody by a credential that nobody has")
	}
	var said struct {
		Active *bool `json:"active"`
	}
	switch {
	case json.Unmarshal(body, &said) != nil || said.Active == nil:
		return errors.New("its answer is none: it must be a JSON object, and of RFC 7662 it must have active")
	case *said.Active:
		return errors.New("it takes a credential that nobody has for an active one")
	}
	return nil
}
