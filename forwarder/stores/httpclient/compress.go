package httpclient

import (
	"bytes"
	"fmt"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// The compressions of a body.
const (
	CompressGzip = "gzip"
	CompressZstd = "zstd"
	CompressNone = "none"
)

const (
	// KeptBody is how much memory a body may leave with the store for the next request,
	// in bytes. An entry that was larger than a batch may be has made it grow beyond.
	KeptBody = 2 * forwarder.DefaultBatchBytes
	// zstdWindow is what a receiver needs to decompress, in bytes. RFC 9659 has those of
	// HTTP take 8 MiB and no more.
	zstdWindow = 1 << 20
)

// Body is the body of a request, made in the same memory each time. The zero value is
// ready; one goroutine uses it.
type Body struct {
	// Plain is the body before it is compressed, Sent what travels. Both are valid until
	// the next Begin.
	Plain, Sent []byte

	gzip *gzip.Writer
	zstd *zstd.Encoder
}

// Begin empties the body.
func (b *Body) Begin() {
	if cap(b.Plain) > KeptBody || cap(b.Sent) > KeptBody {
		b.Drop()
	}
	b.Plain = b.Plain[:0]
}

// Compress makes Sent of Plain.
func (b *Body) Compress(how string) error {
	switch how {
	case CompressGzip:
		out := bytes.NewBuffer(b.Sent[:0])
		if b.gzip == nil {
			b.gzip = gzip.NewWriter(out)
		}
		b.gzip.Reset(out)
		if _, err := b.gzip.Write(b.Plain); err != nil {
			return fmt.Errorf("compressing: %w", err)
		}
		if err := b.gzip.Close(); err != nil {
			return fmt.Errorf("compressing: %w", err)
		}
		b.Sent = out.Bytes()
	case CompressZstd:
		if b.zstd == nil {
			var err error
			b.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdWindow))
			if err != nil {
				return fmt.Errorf("compressing: %w", err)
			}
		}
		b.Sent = b.zstd.EncodeAll(b.Plain, b.Sent[:0])
	default:
		b.Sent = b.Plain
	}
	return nil
}

// Drop lets go of the memory.
func (b *Body) Drop() { *b = Body{} }
