package httpstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const (
	// keptBody is how much memory stays with the store for the next request, in bytes.
	// An entry that was larger than a batch may be has made it grow beyond.
	keptBody = 2 * forwarder.DefaultBatchBytes
	// zstdWindow is what a receiver needs to decompress, in bytes. RFC 9659 has those of
	// HTTP take 8 MiB and no more.
	zstdWindow = 1 << 20
)

// body makes the bodies of requests, in the same memory each time.
type body struct {
	// plain is the body before it is compressed, sent what travels.
	plain, sent []byte
	gzip        *gzip.Writer
	zstd        *zstd.Encoder
}

// encode puts the records' documents together. Both slices are the body's and valid
// until the next call.
func (b *body) encode(records []forwarder.Record, encoding, compress string) error {
	if cap(b.plain) > keptBody || cap(b.sent) > keptBody {
		b.drop()
	}
	b.plain = b.plain[:0]
	if encoding == EncodingJSON {
		b.plain = append(b.plain, '[')
	}
	for i, r := range records {
		if encoding == EncodingJSON && i > 0 {
			b.plain = append(b.plain, ',')
		}
		if err := b.add(r, encoding); err != nil {
			return err
		}
	}
	if encoding == EncodingJSON {
		b.plain = append(b.plain, ']')
	}
	return b.compress(compress)
}

func (b *body) add(r forwarder.Record, encoding string) error {
	if encoding == EncodingJSON {
		b.plain = append(b.plain, r.JSON...)
		return nil
	}
	// A line is an entry, so that one whose document has a line break, which it may
	// between its members, is the only one that does not pass through as it is.
	if !bytes.ContainsAny(r.JSON, "\r\n") {
		b.plain = append(append(b.plain, r.JSON...), '\n')
		return nil
	}
	var line bytes.Buffer
	if err := json.Compact(&line, r.JSON); err != nil {
		return fmt.Errorf("writing entry %d on one line: %w", r.Sequence, err)
	}
	b.plain = append(append(b.plain, line.Bytes()...), '\n')
	return nil
}

func (b *body) compress(how string) error {
	switch how {
	case CompressGzip:
		out := bytes.NewBuffer(b.sent[:0])
		if b.gzip == nil {
			b.gzip = gzip.NewWriter(out)
		}
		b.gzip.Reset(out)
		if _, err := b.gzip.Write(b.plain); err != nil {
			return fmt.Errorf("compressing: %w", err)
		}
		if err := b.gzip.Close(); err != nil {
			return fmt.Errorf("compressing: %w", err)
		}
		b.sent = out.Bytes()
	case CompressZstd:
		if b.zstd == nil {
			var err error
			b.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdWindow))
			if err != nil {
				return fmt.Errorf("compressing: %w", err)
			}
		}
		b.sent = b.zstd.EncodeAll(b.plain, b.sent[:0])
	default:
		b.sent = b.plain
	}
	return nil
}

// drop lets go of the memory.
func (b *body) drop() { *b = body{} }

// payload is a body on its way. The transport may go on reading it after it has
// returned, so it reads through a lock, and nothing more once the payload is taken back.
type payload struct {
	mu       sync.Mutex
	data     []byte
	complete bool
}

var errTakenBack = errors.New("the request is over")

// reader returns the body from its beginning, for one more attempt.
func (p *payload) reader() io.ReadCloser {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.complete = false
	return &payloadReader{payload: p}
}

// takeBack ends all reading and says whether the whole body was read in the last attempt.
func (p *payload) takeBack() (complete bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.data = nil
	return p.complete
}

type payloadReader struct {
	payload *payload
	offset  int
	ended   bool
}

func (r *payloadReader) Read(b []byte) (int, error) {
	p := r.payload
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.ended {
		// The transport asks once more, to see that there is nothing, and perhaps after the
		// answer has come. An error would cost the connection.
		return 0, io.EOF
	}
	if p.data == nil {
		return 0, errTakenBack
	}
	n := copy(b, p.data[r.offset:])
	r.offset += n
	if r.offset == len(p.data) {
		p.complete, r.ended = true, true
		return n, io.EOF
	}
	return n, nil
}

func (*payloadReader) Close() error { return nil }
