package operator

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const (
	// MaxCredential bounds the credential that is searched for, in bytes.
	MaxCredential = 64 << 10
)

// SearchRequest says what to search for. Fields that are set narrow the search.
type SearchRequest struct {
	// Credential is what has leaked. It must never be logged or stored.
	Credential   string `json:"credential,omitempty"`
	TokenHash    string `json:"token_hash,omitempty"`
	Session      string `json:"session,omitempty"`
	User         string `json:"user,omitempty"`
	IP           string `json:"ip,omitempty"`
	Organization string `json:"organization,omitempty"`
	From         string `json:"from,omitempty"`
	To           string `json:"to,omitempty"`
	SearchFilters
	// Limit bounds the number of entries; zero is unbounded.
	Limit int `json:"limit,omitempty"`
	// NewestFirst turns the order around.
	NewestFirst bool `json:"newest_first,omitempty"`
}

// Finding is one line of a search's answer: an entry and what makes it part of
// the trail, or the end, without which the answer is not whole.
type Finding struct {
	By    string          `json:"by,omitempty"`
	Entry json.RawMessage `json:"entry,omitempty"`
	End   *SearchEnd      `json:"end,omitempty"`
}

// SearchEnd is what there is to say about a search.
type SearchEnd struct {
	// TokenHash is the beginning of the credential's hash.
	TokenHash string `json:"token_hash,omitempty"`
	// Notes say what was not searched, as is to be expected.
	Notes []string `json:"notes,omitempty"`
	// More says that there are entries beyond the limit.
	More bool `json:"more,omitempty"`
	// Failed is why a part that should have been searched was not.
	Failed string `json:"failed,omitempty"`
}

// Note adds one to the notes.
func (e *SearchEnd) Note(format string, args ...any) {
	e.Notes = append(e.Notes, fmt.Sprintf(format, args...))
}

// Query checks the request. Its errors do not repeat what may be a credential
// in the wrong place.
func (r *SearchRequest) Query(key *audit.TokenKey) (q forwarder.Query, err error) {
	given := map[string]string{"organization": r.Organization, "from": r.From, "to": r.To}
	if q, err = ParseQuery(func(name string) string { return given[name] }); err != nil {
		return q, err
	}
	q.Session, q.User = r.Session, r.User
	q.Limit, q.NewestFirst = r.Limit, r.NewestFirst
	if q.Filters, err = r.filters(); err != nil {
		return q, err
	}
	switch {
	case r.Credential == "" && r.TokenHash == "" && r.Session == "" && r.User == "" && r.IP == "" && !isFiltered(&q):
		return q, errors.New("searching for nothing: give a token, a session, a user or an address, or a filter such as --outcome; caddy audit export prints everything")
	case r.Limit < 0:
		return q, errors.New("searching up to a limit: it is below zero: give a number of entries, or 0 for all")
	case r.Credential != "" && r.TokenHash != "":
		return q, errors.New("searching for a token and a hash at once: give one of them")
	case len(r.Credential) > MaxCredential:
		return q, fmt.Errorf("searching for a credential of %d bytes: %d is the most that is taken", len(r.Credential), MaxCredential)
	case r.Credential != "":
		q.Trail = key.Trail(r.Credential)
	case r.TokenHash != "":
		hash := strings.ToLower(strings.TrimSpace(r.TokenHash))
		if b, err := hex.DecodeString(strings.TrimPrefix(hash, "hmac:")); err != nil || len(b) != 32 {
			return q, errors.New("reading the token's hash: it is not 64 hex digits, with or without hmac: before them: " +
				"take it from an entry's token_hash; a credential itself is given by --token-stdin")
		}
		q.Trail.Hashes = []string{hash}
	}
	if r.IP != "" {
		ip, err := netip.ParseAddr(strings.TrimSpace(r.IP))
		if err != nil {
			return q, errors.New("reading the IP address: it is none: write it as in 203.0.113.7 or 2001:db8::7")
		}
		q.IP = ip.WithZone("").String()
	}
	return q, nil
}

// ShownHash is as much of a trail's hash as a person needs.
func ShownHash(t *audit.Trail) string {
	if len(t.Hashes) == 0 {
		return ""
	}
	return t.Hashes[0][:strings.LastIndexByte(t.Hashes[0], ':')+1+8] + "…"
}

// FindingLine leaves the entry's bytes as they are.
func FindingLine(doc []byte, by string) []byte {
	line := make([]byte, 0, len(doc)+64)
	line = append(line, `{"by":"`+by+`","entry":`...)
	return append(append(line, doc...), '}')
}

// ParseQuery reads the selection that export and its admin route share.
func ParseQuery(get func(string) string) (q forwarder.Query, err error) {
	q.Organization = get("organization")
	for name, t := range map[string]*time.Time{"from": &q.From, "to": &q.To} {
		if v := get(name); v != "" {
			if *t, err = time.Parse(time.RFC3339, v); err != nil {
				return q, fmt.Errorf("%s is not a time: write it as in 2026-01-31T00:00:00Z", name)
			}
		}
	}
	return q, nil
}
