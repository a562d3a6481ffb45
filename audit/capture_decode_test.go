package audit

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/caddy-audit-log/caddy-audit-log/internal/planted"
)

var encoders = map[string]func(w io.Writer) io.WriteCloser{
	"gzip":    func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
	"x-gzip":  func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
	"deflate": func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) },
	"br":      func(w io.Writer) io.WriteCloser { return brotli.NewWriter(w) },
	"Deflate": func(w io.Writer) io.WriteCloser { // without a header
		f, _ := flate.NewWriter(w, 9)
		return f
	},
	"zstd": func(w io.Writer) io.WriteCloser {
		z, _ := zstd.NewWriter(w)
		return z
	},
}

func compress(name string, text []byte) []byte {
	var b bytes.Buffer
	w := encoders[name](&b)
	w.Write(text)
	w.Close()
	return b.Bytes()
}

func capturedOf(t *testing.T, encoding string, body []byte, limit int, complete bool) string {
	t.Helper()
	b := selection(t, Capture{Body: []string{"a", "z"}}).NewBody("application/json", encoding, false, limit)
	b.Write(body)
	return encoded(t, b.Captured(complete))
}

func TestEncodedBodiesAreDecodedForTheCapture(t *testing.T) {
	const want = `{"a":"x","z":1}`
	text := []byte(`{"a":"x","b":[1,2,3],"z":1}`)
	noise := make([]byte, 30<<10)
	for i := range noise {
		noise[i] = planted.Alnum[rand.IntN(len(planted.Alnum))]
	}
	long := []byte(`{"a":"x","n":"` + string(noise) + `","z":1}`)
	for name := range encoders {
		packed := compress(name, text)
		if got := capturedOf(t, name, packed, 0, true); got != want {
			t.Errorf("%s: %s", name, got)
		}
		if got := capturedOf(t, name+" , identity", packed, 0, true); got != want {
			t.Errorf("%s and identity: %s", name, got)
		}
		if got := capturedOf(t, name+", gzip", compress("gzip", packed), 0, true); got != want {
			t.Errorf("%s in gzip: %s", name, got)
		}
		if got := capturedOf(t, "gzip, "+name+",gzip", packed, 0, true); got != `{"_capture":["encoding"]}` {
			t.Errorf("three encodings: %s", got)
		}
		// Cut at the cap, what was decoded before is there. Two of them decode
		// by the block, and the block is not whole.
		if got := capturedOf(t, name, compress(name, long), 16<<10, true); got != `{"_capture":["truncated"],"a":"x"}` && name != "br" && name != "zstd" || strings.Contains(got, "z") {
			t.Errorf("%s, cut: %s", name, got)
		}
		if got := capturedOf(t, name, packed[:len(packed)/2], 0, true); got != `{"_capture":["encoding"]}` && name != "Deflate" {
			t.Errorf("%s, half of it: %s", name, got)
		}
		if got := capturedOf(t, name, []byte("not "+name), 0, true); !strings.Contains(got, wordEncoding) {
			t.Errorf("%s, something else: %s", name, got)
		}
	}
	for _, name := range []string{"compress", "snappy", "gzip;q=1"} {
		if got := capturedOf(t, name, text, 0, true); got != `{"_capture":["encoding"]}` {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := capturedOf(t, "", nil, 0, true); got != "null" {
		t.Errorf("empty: %s", got)
	}
}

func TestABombIsNotDecoded(t *testing.T) {
	zeros := append([]byte(`{"a":"x","n":"`), bytes.Repeat([]byte("0"), 8<<20)...)
	for _, name := range []string{"gzip", "deflate", "Deflate", "zstd", "br"} {
		packed := compress(name, zeros)
		if got := capturedOf(t, name, packed, 0, true); got != `{"_capture":["bomb"]}` {
			t.Errorf("%s of %d bytes: %s", name, len(packed), got)
		}
		twice := compress("gzip", packed)
		if got := capturedOf(t, name+", gzip", twice, 0, true); !strings.Contains(got, wordBomb) {
			t.Errorf("%s in gzip of %d bytes: %s", name, len(twice), got)
		}
	}
	// Text that packs well is none.
	var b strings.Builder
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		b.WriteString(strings.Repeat(string(planted.Alnum[r.IntN(62)]), 1+r.IntN(20)))
	}
	varied := []byte(`{"a":"x","n":"` + b.String() + `"}`)
	if got := capturedOf(t, "gzip", compress("gzip", varied), 0, true); got != `{"_capture":["truncated"],"a":"x"}` {
		t.Errorf("%d bytes: %s", len(varied), got)
	}
}
