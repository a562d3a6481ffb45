package httpstore

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
)

// body makes the bodies of requests.
type body struct{ httpclient.Body }

// encode puts the records' documents together.
func (b *body) encode(records []forwarder.Record, encoding, compress string) error {
	b.Begin()
	if encoding == EncodingJSON {
		b.Plain = append(b.Plain, '[')
	}
	for i, r := range records {
		if encoding == EncodingJSON && i > 0 {
			b.Plain = append(b.Plain, ',')
		}
		if err := b.add(r, encoding); err != nil {
			return err
		}
	}
	if encoding == EncodingJSON {
		b.Plain = append(b.Plain, ']')
	}
	return b.Compress(compress)
}

func (b *body) add(r forwarder.Record, encoding string) error {
	if encoding == EncodingJSON {
		b.Plain = append(b.Plain, r.JSON...)
		return nil
	}
	// A line is an entry, so that one whose document has a line break, which it may
	// between its members, is the only one that does not pass through as it is.
	if !bytes.ContainsAny(r.JSON, "\r\n") {
		b.Plain = append(append(b.Plain, r.JSON...), '\n')
		return nil
	}
	var line bytes.Buffer
	if err := json.Compact(&line, r.JSON); err != nil {
		return fmt.Errorf("writing entry %d on one line: %w", r.Sequence, err)
	}
	b.Plain = append(append(b.Plain, line.Bytes()...), '\n')
	return nil
}
