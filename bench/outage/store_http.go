package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// What a receiver refuses with 422.
const (
	refuseNothing = iota
	refuseMarked
	refuseAll
)

// quiet is what whoever has an answer on its way gets to read it.
const quiet = time.Second

// secretBytes is what requests are signed with.
var secretBytes = []byte("the bench's own secret, 32 bytes")

// clockSkew is how old a signature may be.
const clockSkew = 5 * time.Minute

// maxReceived bounds the body of a request.
const maxReceived = 64 << 20

// httpStore is a receiver of webhooks, which verifies each request and appends
// what is in it to a file. Its outage is that nobody listens.
type httpStore struct {
	// label is the store's name, and options are further lines of its block.
	label   string
	options string
	addr    string
	// through is where the build finds it, if that is not addr.
	through string

	mu      sync.Mutex
	file    *os.File
	srv     *http.Server
	refuses int
	// leaving says that everything is answered with 503.
	leaving bool
	// requests are by webhook-id what was in them: the same id is the same
	// content.
	requests map[string][sha256.Size]byte
	// Forged are requests whose signature was wrong, and Reused those whose id
	// had come with other content.
	forged, reused int
}

// newReceiver listens on a free port and keeps what arrives at path.
func newReceiver(path, label, options string) (*httpStore, error) {
	free, err := ports.Free(1)
	if err != nil {
		return nil, err
	}
	s := &httpStore{label: label, options: options, requests: map[string][sha256.Size]byte{}}
	s.addr = ports.Address(free[0])
	if s.file, err = os.Create(path); err != nil {
		return nil, fmt.Errorf("making the receiver's file: %w", err)
	}
	if err := s.up(context.Background()); err != nil {
		return nil, errors.Join(err, s.file.Close())
	}
	return s, nil
}

func (s *httpStore) name() string { return s.label }
func (*httpStore) kind() string   { return httpKind }
func (*httpStore) once() bool     { return false }

func (s *httpStore) block() string {
	at := s.addr
	if s.through != "" {
		at = s.through
	}
	b := "store http http://" + at + "/ingest {\n\tsecret {env.OUTAGE_SECRET}\n\ttimeout 5s\n"
	if s.label != httpKind {
		b += "\tname " + s.label + "\n"
	}
	if s.options != "" {
		b += "\t" + s.options + "\n"
	}
	return b + "}"
}

// secret is what the build gets.
func secret() string { return "whsec_" + base64.StdEncoding.EncodeToString(secretBytes) }

// down breaks what is under way off.
func (s *httpStore) down(context.Context) error { return s.srv.Close() }

// leave goes down with nothing taken whose sender does not know it: it takes no more
// a while before it closes its connections.
func (s *httpStore) leave(ctx context.Context) error {
	s.mu.Lock()
	s.leaving = true
	s.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(quiet):
	}
	return s.srv.Close()
}

func (s *httpStore) up(context.Context) error {
	l, err := ports.ListenAgain(s.addr)
	if err != nil {
		return fmt.Errorf("listening as the receiver: %w", err)
	}
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	s.srv = srv
	s.mu.Lock()
	s.leaving = false
	s.mu.Unlock()
	go func() { _ = srv.Serve(l) }() // returns when it is closed
	return nil
}

func (s *httpStore) close() error { return errors.Join(s.srv.Close(), s.file.Close()) }

func (s *httpStore) refuse(what int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuses = what
}

// marked chooses about one call in a hundred.
func marked(e *rig.Entry) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(e.TargetID())) // never fails
	return e.TargetID() != "" && h.Sum32()%100 == 0
}

// ServeHTTP takes a batch, whole or not at all.
func (s *httpStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReceived))
	if err != nil {
		http.Error(w, "the body did not arrive", http.StatusRequestTimeout)
		return
	}
	if !signed(r.Header, body) {
		s.mu.Lock()
		s.forged++
		s.mu.Unlock()
		http.Error(w, "the signature is wrong", http.StatusUnauthorized)
		return
	}
	docs, err := documents(r.Header.Get("Content-Encoding"), body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnsupportedMediaType)
		return
	}
	if status, err := s.take(r.Header.Get("Webhook-Id"), docs); err != nil {
		http.Error(w, err.Error(), status)
	}
}

func (s *httpStore) take(id string, docs []json.RawMessage) (status int, err error) {
	var lines bytes.Buffer
	hasMarked := false
	for _, doc := range docs {
		var e rig.Entry
		if err := json.Unmarshal(doc, &e); err != nil {
			return http.StatusUnsupportedMediaType, err
		}
		hasMarked = hasMarked || marked(&e)
		lines.Write(doc)
		lines.WriteByte('\n')
	}
	sum := sha256.Sum256(lines.Bytes())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving {
		return http.StatusServiceUnavailable, errors.New("this receiver goes down")
	}
	if had, again := s.requests[id]; again && had != sum {
		s.reused++
	}
	s.requests[id] = sum
	if s.refuses == refuseAll || s.refuses == refuseMarked && hasMarked {
		return http.StatusUnprocessableEntity, errors.New("this receiver does not take what is in the batch")
	}
	if _, err := s.file.Write(lines.Bytes()); err != nil {
		return http.StatusInternalServerError, err
	}
	return http.StatusOK, nil
}

// signed verifies a request as the Standard Webhooks specification says.
func signed(h http.Header, body []byte) bool {
	id, stamp := h.Get("Webhook-Id"), h.Get("Webhook-Timestamp")
	at, err := strconv.ParseInt(stamp, 10, 64)
	if age := time.Since(time.Unix(at, 0)); err != nil || id == "" || age > clockSkew || age < -clockSkew {
		return false
	}
	want := signature(id, stamp, body)
	for s := range strings.FieldsSeq(h.Get("Webhook-Signature")) {
		if hmac.Equal([]byte(s), []byte(want)) {
			return true
		}
	}
	return false
}

// signature is what the specification has a request signed with.
func signature(id, stamp string, body []byte) string {
	mac := hmac.New(sha256.New, secretBytes)
	_, _ = fmt.Fprintf(mac, "%s.%s.", id, stamp) // never fails
	_, _ = mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// documents takes a body apart.
func documents(encoding string, body []byte) (docs []json.RawMessage, err error) {
	if encoding == "gzip" {
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		if body, err = io.ReadAll(io.LimitReader(z, maxReceived)); err != nil {
			return nil, err
		}
	}
	return docs, json.Unmarshal(body, &docs)
}

// figures are how many requests were forged, and how many came under another
// one's id.
func (s *httpStore) figures() (forged, reused int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.forged, s.reused
}

func (s *httpStore) arrivals(context.Context) ([]rig.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return readFiles([]string{s.file.Name()})
}
