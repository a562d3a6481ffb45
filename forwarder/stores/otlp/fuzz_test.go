package otlp

import (
	"net/http"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// FuzzPartialSuccess reads any body of a success: it is bounded, and only a number above
// zero refuses.
func FuzzPartialSuccess(f *testing.F) {
	for _, media := range []string{mediaProtobuf, mediaJSON, "", "text/plain"} {
		f.Add(media, []byte(nil))
		f.Add(media, response(f, 1, "no"))
		f.Add(media, response(f, 0, "old"))
		f.Add(media, response(f, -1, ""))
		f.Add(media, []byte(`{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"no"}}`))
	}
	f.Fuzz(func(t *testing.T, media string, body []byte) {
		rejected, message, err := partialSuccess(media, body)
		if rejected < 0 || err != nil && (rejected != 0 || message != "") {
			t.Errorf("%d, %q, %v", rejected, message, err)
		}
		if len(message) > maxResponse {
			t.Errorf("%d bytes", len(message))
		}
		if len(body) == 0 && err != nil {
			t.Errorf("nothing is a full success: %v", err)
		}
	})
}

// FuzzStatus reads any body of a failure, and one whose end is cut off.
func FuzzStatus(f *testing.F) {
	f.Add(statusOf(3, "no"), 1)
	f.Add([]byte("not found"), 3)
	f.Add(protowire.AppendBytes(protowire.AppendTag(nil, 3, protowire.BytesType), []byte("detail")), 0)
	f.Add([]byte{0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 'x'}, 0)
	h := http.Header{"Content-Type": {mediaProtobuf}}
	f.Fuzz(func(t *testing.T, body []byte, cut int) {
		if cut > 0 && cut < len(body) {
			body = body[:cut]
		}
		if text := statusText(h, body); len(text) > len(body) {
			t.Errorf("%d bytes of %d", len(text), len(body))
		}
		if text := statusText(nil, body); text != string(body) {
			t.Errorf("%q of %q", text, body)
		}
	})
}
