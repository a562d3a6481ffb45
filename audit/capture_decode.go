package audit

import (
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

const (
	// maxEncodings is how many encodings of a body are undone.
	maxEncodings = 2
	// maxRatio is how many bytes one may decode to in a body that is not made
	// to exhaust its reader.
	maxRatio = 100
	// maxZstdWindow is what a zstd frame may ask for, as browsers have it.
	maxZstdWindow = 8 << 20
)

// decoding bounds the memory of decoders, whose windows the sender chooses.
var decoding = make(chan struct{}, 2)

// decode gives what was kept, without its encodings, and whether it goes on
// behind its end; or a word if it cannot be read.
func (b *Body) decode(cut bool) (text []byte, goesOn bool, word string) {
	names := strings.FieldsFunc(strings.ToLower(b.encodings), func(c rune) bool { return c == ',' || c == ' ' || c == '\t' })
	names = slices.DeleteFunc(names, func(name string) bool { return name == "identity" })
	if len(names) > maxEncodings {
		return nil, cut, wordEncoding
	}
	text = b.kept
	if len(names) == 0 {
		return text, cut, ""
	}
	decoding <- struct{}{}
	defer func() { <-decoding }()
	for _, name := range slices.Backward(names) {
		if text, cut, word = decodeOnce(name, text, cut); word != "" {
			return nil, cut, word
		}
	}
	return text, cut, ""
}

func decodeOnce(name string, encoded []byte, cut bool) (text []byte, goesOn bool, word string) {
	// Decoders read ahead; in small steps the ratio is a good one.
	counted := &countingReader{data: encoded}
	r, err := newDecoder(name, counted)
	if err != nil {
		if cut && isEnd(err) {
			return nil, true, ""
		}
		return nil, cut, wordEncoding
	}
	defer r.Close()
	text, err = io.ReadAll(io.LimitReader(r, maxDecodedBody+1))
	switch {
	case len(text) > maxDecodedBody && len(text) > maxRatio*counted.at:
		return nil, true, wordBomb
	case len(text) > maxDecodedBody:
		return text[:maxDecodedBody], true, ""
	case err == nil:
		return text, cut, ""
	case cut && isEnd(err):
		return text, true, ""
	}
	return nil, cut, wordEncoding
}

func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

func newDecoder(name string, r *countingReader) (io.ReadCloser, error) {
	switch name {
	case "gzip", "x-gzip":
		return gzip.NewReader(r)
	case "deflate":
		// Some send it with a header, as the standard says, and some without.
		if len(r.data) >= 2 && r.data[0]&0x0f == 8 && (int(r.data[0])<<8|int(r.data[1]))%31 == 0 {
			return zlib.NewReader(r)
		}
		return flate.NewReader(r), nil
	case "zstd":
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case "br":
		return io.NopCloser(brotli.NewReader(r)), nil
	}
	return nil, errors.New("reading an unknown encoding")
}

// countingReader reads in small steps and counts what was read.
type countingReader struct {
	data []byte
	at   int
}

func (r *countingReader) Read(p []byte) (int, error) {
	if r.at == len(r.data) {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 64)], r.data[r.at:])
	r.at += n
	return n, nil
}

func (r *countingReader) ReadByte() (byte, error) {
	if r.at == len(r.data) {
		return 0, io.EOF
	}
	r.at++
	return r.data[r.at-1], nil
}
