package caddymodule

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const (
	// maxCredential bounds the credential that is searched for, in bytes.
	maxCredential = 64 << 10
	// maxSearch bounds the request: JSON may need six bytes for one.
	maxSearch = 8 * maxCredential
	// searchRoom bounds what a search holds of the buffer's entries, in bytes.
	searchRoom = 16 << 20
)

// searchRequest says what to search for. Fields that are set narrow the search.
type searchRequest struct {
	// Credential is what has leaked. It must never be logged or stored.
	Credential   string `json:"credential,omitempty"`
	TokenHash    string `json:"token_hash,omitempty"`
	Session      string `json:"session,omitempty"`
	User         string `json:"user,omitempty"`
	IP           string `json:"ip,omitempty"`
	Organization string `json:"organization,omitempty"`
	From         string `json:"from,omitempty"`
	To           string `json:"to,omitempty"`
	searchFilters
	// Limit bounds the number of entries; zero is unbounded.
	Limit int `json:"limit,omitempty"`
	// NewestFirst turns the order around.
	NewestFirst bool `json:"newest_first,omitempty"`
}

// finding is one line of a search's answer: an entry and what makes it part of
// the trail, or the end, without which the answer is not whole.
type finding struct {
	By    string          `json:"by,omitempty"`
	Entry json.RawMessage `json:"entry,omitempty"`
	End   *searchEnd      `json:"end,omitempty"`
}

// searchEnd is what there is to say about a search.
type searchEnd struct {
	// TokenHash is the beginning of the credential's hash.
	TokenHash string `json:"token_hash,omitempty"`
	// Notes say what was not searched, as is to be expected.
	Notes []string `json:"notes,omitempty"`
	// More says that there are entries beyond the limit.
	More bool `json:"more,omitempty"`
	// Failed is why a part that should have been searched was not.
	Failed string `json:"failed,omitempty"`
}

func (e *searchEnd) note(format string, args ...any) {
	e.Notes = append(e.Notes, fmt.Sprintf(format, args...))
}

// query checks the request. Its errors do not repeat what may be a credential
// in the wrong place.
func (r *searchRequest) query(key *audit.TokenKey) (q forwarder.Query, err error) {
	given := map[string]string{"organization": r.Organization, "from": r.From, "to": r.To}
	if q, err = parseQuery(func(name string) string { return given[name] }); err != nil {
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
	case len(r.Credential) > maxCredential:
		return q, fmt.Errorf("searching for a credential of %d bytes: %d is the most that is taken", len(r.Credential), maxCredential)
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

// shownHash is as much of a trail's hash as a person needs.
func shownHash(t *audit.Trail) string {
	if len(t.Hashes) == 0 {
		return ""
	}
	return t.Hashes[0][:strings.LastIndexByte(t.Hashes[0], ':')+1+8] + "…"
}

// serveSearch answers POST, although it changes nothing: a credential must not
// stand in a URL or a header, which Caddy's log shows, and only POST has a body.
func (a *App) serveSearch(w http.ResponseWriter, r *http.Request) error {
	request, err := readSearch(w, r)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	s, err := a.hold()
	if err != nil {
		return err
	}
	defer s.release()
	q, err := request.query(s.key)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	end := searchEnd{TokenHash: shownHash(&q.Trail)}
	do := search{query: q, buf: s.buf, room: searchRoom}
	reader, err := a.stores.OpenReader(r.Context())
	if err != nil {
		end.note("only the buffer was searched, since no store can be read: %v", err)
	} else {
		defer reader.Close()
		do.store = reader
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	return stream(w, func(emit func([]byte) error) error {
		do.emit = func(doc []byte, by string) error { return emit(findingLine(doc, by)) }
		if err := do.run(r.Context()); err != nil {
			return err
		}
		end.More = do.more
		if do.failed != nil {
			end.Failed = do.failed.Error()
		}
		line, err := json.Marshal(finding{End: &end})
		if err != nil {
			return err
		}
		return emit(line)
	})
}

// findingLine leaves the entry's bytes as they are.
func findingLine(doc []byte, by string) []byte {
	line := make([]byte, 0, len(doc)+64)
	line = append(line, `{"by":"`+by+`","entry":`...)
	return append(append(line, doc...), '}')
}

// readSearch says nothing about a body that it cannot read but that: an error is
// logged, and the body may hold a credential.
func readSearch(w http.ResponseWriter, r *http.Request) (request searchRequest, err error) {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxSearch))
	d.DisallowUnknownFields()
	if err = d.Decode(&request); err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return request, nil
		}
	}
	return request, fmt.Errorf("reading the search: the body is not one JSON object of up to %d bytes with the fields "+
		"credential, token_hash, session, user, ip, organization, from, to and text, all texts, filters, which has lists of texts by name, "+
		"limit, a number, and newest_first, true or false", maxSearch)
}
