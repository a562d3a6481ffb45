package caddymodule

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
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
	switch {
	case r.Credential == "" && r.TokenHash == "" && r.Session == "" && r.User == "" && r.IP == "":
		return q, errors.New("searching for nothing: give a token, a session, a user or an address; caddy audit export prints everything")
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
	reader, err := openReader(r.Context(), a.stores)
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
		"credential, token_hash, session, user, ip, organization, from and to, all texts", maxSearch)
}

// search finds entries in a store and in the buffer, which has those that no
// store has yet: oldest first, each once and in its highest revision. A revision
// that is not selected is not looked at, since a later one may learn who acts
// and never forgets it.
//
// It holds up to room bytes of the buffer's entries. When more are found there,
// it searches in several windows of arrival, reading the buffer once for each.
type search struct {
	query forwarder.Query
	store forwarder.Reader // nil: none can be read
	buf   *buffer.Buffer   // nil: it cannot be read, since the server is down
	room  int
	emit  func(doc []byte, by string) error

	// failed is why a part of the buffer was not searched. What can be found all
	// the same is shown first.
	failed error
}

func (s *search) run(ctx context.Context) error {
	for q := s.query; ; {
		// The buffer first: what leaves it meanwhile is in the store by then.
		w := newWindow(q, s.room)
		if s.failed == nil {
			s.failed = s.readBuffer(ctx, w)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.merge(ctx, w); err != nil {
			return err
		}
		if !w.cut {
			return nil
		}
		q.From = w.query.To
	}
}

func (s *search) readBuffer(ctx context.Context, w *window) (err error) {
	if s.buf == nil {
		return nil
	}
	var harmed error
	readErr := s.buf.ReadPast(s.buf.Stats().Oldest, func(sequence uint64, payload []byte) bool {
		if err = ctx.Err(); err == nil && w.mayMatch(payload) {
			err = w.add(s.buf.Instance(sequence), sequence, payload)
		}
		return err == nil
	}, func(d *buffer.DamagedError) { harmed = d })
	if err = errors.Join(err, readErr, harmed); err != nil {
		return fmt.Errorf("searching the buffer: %w", err)
	}
	return nil
}

// merge puts the window's entries among the store's, whose order is the same.
func (s *search) merge(ctx context.Context, w *window) error {
	held := w.sorted()
	next := func() error {
		f := held[0]
		held = held[1:]
		return s.emit(f.doc, f.by)
	}
	if s.store != nil {
		for doc, err := range s.store.Read(ctx, w.query) {
			if err != nil {
				return err
			}
			f, err := found(doc, &s.query)
			if err != nil {
				return err
			}
			for len(held) > 0 && held[0].compare(f) < 0 {
				if err := next(); err != nil {
					return err
				}
			}
			if len(held) > 0 && held[0].compare(f) == 0 {
				if held[0].revision > f.revision {
					f = held[0]
				}
				held = held[1:]
			}
			if err := s.emit(f.doc, f.by); err != nil {
				return err
			}
		}
	}
	for len(held) > 0 {
		if err := next(); err != nil {
			return err
		}
	}
	return nil
}

// foundEntry is an entry that a search has found.
type foundEntry struct {
	arrival  int64
	id       string
	revision int
	by       string
	doc      []byte
}

func found(doc []byte, q *forwarder.Query) (*foundEntry, error) {
	e, err := audit.Decode(doc)
	if err != nil {
		return nil, err
	}
	return foundIn(e, doc, q), nil
}

func foundIn(e *audit.Entry, doc []byte, q *forwarder.Query) *foundEntry {
	return &foundEntry{arrival: e.Timestamp, id: e.ID, revision: e.Revision, by: q.Trail.Names(e), doc: doc}
}

// compare gives the order of a store: by arrival and then id.
func (f *foundEntry) compare(o *foundEntry) int {
	return cmp.Or(cmp.Compare(f.arrival, o.arrival), cmp.Compare(f.id, o.id))
}

// window collects the buffer's entries of a query. When they are too many it
// gives the later half of them up, for another window.
type window struct {
	query    forwarder.Query
	mayMatch func([]byte) bool
	entries  map[string]*foundEntry
	bytes    int
	room     int
	cut      bool // query.To was set earlier
}

func newWindow(q forwarder.Query, room int) *window {
	return &window{query: q, mayMatch: mayMatch(&q), entries: map[string]*foundEntry{}, room: room}
}

func (w *window) add(instance string, sequence uint64, payload []byte) error {
	r, err := forwarder.NewRecord(instance, sequence, payload)
	if err != nil {
		return err
	}
	if !w.query.Matches(r.Entry) {
		return nil
	}
	have := w.entries[r.Entry.ID]
	if have != nil && have.revision >= r.Entry.Revision {
		return nil
	}
	if have != nil {
		w.bytes -= len(have.doc)
	}
	w.entries[r.Entry.ID] = foundIn(r.Entry, r.JSON, &w.query)
	if w.bytes += len(r.JSON); w.bytes > w.room {
		w.halve()
	}
	return nil
}

// halve ends the window where its later half begins. Entries of one microsecond
// stay together.
func (w *window) halve() {
	all := w.sorted()
	end := all[len(all)/2].arrival
	if end == all[0].arrival {
		if end = all[len(all)-1].arrival; end == all[0].arrival {
			return
		}
	}
	w.query.To, w.cut = time.UnixMicro(end), true
	for _, f := range all {
		if f.arrival >= end {
			w.bytes -= len(f.doc)
			delete(w.entries, f.id)
		}
	}
}

func (w *window) sorted() []*foundEntry {
	return slices.SortedFunc(maps.Values(w.entries), (*foundEntry).compare)
}

// mayMatch returns a cheap look at an encoded entry, which spares decoding most
// of a buffer. It may take one that does not match, and never the other way.
func mayMatch(q *forwarder.Query) func([]byte) bool {
	hashes := map[string]bool{}
	for _, h := range q.Trail.Hashes {
		hashes[h] = true
	}
	session := member("session_id", q.Trail.Session)
	var all [][]byte
	for name, value := range map[string]string{"session_id": q.Session, "user_id": q.User, "ip": q.IP} {
		if value != "" {
			all = append(all, member(name, value))
		}
	}
	return func(doc []byte) bool {
		for _, m := range all {
			if !bytes.Contains(doc, m) {
				return false
			}
		}
		return q.Trail.IsZero() || hasHash(doc, hashes) || q.Trail.Session != "" && bytes.Contains(doc, session)
	}
}

// member is a text member as an entry's JSON has it.
func member(name, value string) []byte {
	quoted, _ := json.Marshal(value) // a text always has a form
	return append([]byte(`"`+name+`":`), quoted...)
}

func hasHash(doc []byte, hashes map[string]bool) bool {
	for {
		_, rest, ok := bytes.Cut(doc, []byte(`"token_hash":"`))
		if !ok {
			return false
		}
		var hash []byte
		hash, doc, _ = bytes.Cut(rest, []byte(`"`))
		if hashes[string(hash)] {
			return true
		}
	}
}
