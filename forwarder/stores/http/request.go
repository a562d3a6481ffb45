package httpstore

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
)

// The headers that say which entries a request has.
const (
	headerInstance = "Audit-Instance"
	headerFirst    = "Audit-First-Sequence"
	headerLast     = "Audit-Last-Sequence"
	headerEntries  = "Audit-Entries"
)

// divide cuts a batch into the parts that each are a request: of one instance, and no
// larger than the receiver takes. The order stays.
func divide(batch []forwarder.Record, maxBody int) (parts [][]forwarder.Record) {
	begin, size := 0, 2
	for i, r := range batch {
		if i > begin && (instance(r) != instance(batch[begin]) || maxBody > 0 && size+len(r.JSON)+1 > maxBody) {
			parts = append(parts, batch[begin:i])
			begin, size = i, 2
		}
		size += len(r.JSON) + 1
	}
	if begin < len(batch) {
		parts = append(parts, batch[begin:])
	}
	return parts
}

func instance(r forwarder.Record) string {
	if o := r.Entry.Origin; o != nil {
		return o.Instance
	}
	return ""
}

func bounds(part []forwarder.Record) (first, last uint64) {
	first, last = part[0].Sequence, part[0].Sequence
	for _, r := range part {
		first, last = min(first, r.Sequence), max(last, r.Sequence)
	}
	return first, last
}

// fill makes the body for a part, describes it by headers and signs it.
func (s *Store) fill(h http.Header, part []forwarder.Record, r httpclient.Request, resolve func(string) (string, error), known *httpclient.Secrets) ([]byte, error) {
	keys, err := s.c.keys(resolve, known)
	if err != nil {
		return nil, err
	}
	if err := s.body.encode(part, s.c.Encoding, s.c.Compress); err != nil {
		return nil, err
	}
	s.describeBody(h, part, r)
	at := s.client.Now()
	id := requestID(instance(part[0]), r.First, r.Last, part)
	h.Set(headerID, id)
	h.Set(headerTimestamp, strconv.FormatInt(at.Unix(), 10))
	if len(keys) > 0 {
		bodies := [][]byte{s.body.Sent}
		if s.c.Compress != httpclient.CompressNone {
			bodies = append(bodies, s.body.Plain)
		}
		h.Set(headerSignature, signatures(keys, id, at, bodies...))
	}
	return s.body.Sent, nil
}

// describeBody sets the headers that say what the body is.
func (s *Store) describeBody(h http.Header, part []forwarder.Record, r httpclient.Request) {
	h.Set("Content-Type", "application/json")
	if s.c.Encoding == EncodingNDJSON {
		h.Set("Content-Type", "application/x-ndjson")
	}
	if s.c.Compress != httpclient.CompressNone {
		h.Set("Content-Encoding", s.c.Compress)
	}
	h.Set(headerInstance, instance(part[0]))
	h.Set(headerFirst, strconv.FormatUint(r.First, 10))
	h.Set(headerLast, strconv.FormatUint(r.Last, 10))
	h.Set(headerEntries, strconv.Itoa(len(part)))
}

// keys reads the secrets that sign.
func (c Config) keys(resolve func(string) (string, error), known *httpclient.Secrets) ([]signingKey, error) {
	var keys []signingKey
	for _, name := range c.Secrets {
		value, err := resolve(name)
		if err != nil {
			return nil, fmt.Errorf("the secret: %w", err)
		}
		_, bare, _ := strings.Cut(value, "_")
		known.Add(bare)
		key, err := parseSecret(value)
		if err != nil {
			return nil, fmt.Errorf("the secret %s: %w", name, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}
