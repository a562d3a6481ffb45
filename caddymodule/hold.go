package caddymodule

import (
	"mime"
	"net/http"
	"strings"
)

// maxHeld bounds the answers that are held, in bytes.
const maxHeld = 64 << 10

// heldBody is that of an answer whose target is born in it: the headers wait, and are not
// recorded, until it has been read, so that the entry that is durable before they leave
// names what was made.
type heldBody struct {
	want int
	body []byte
}

// mayHold reports whether an answer is one that can be held: JSON of a known and
// bounded length, and nothing that is still to be decoded. Nothing else is ever
// held.
func mayHold(h http.Header, status int) (length int, ok bool) {
	n := contentLength(h)
	if status < 200 || status >= 300 || n <= 0 || n > maxHeld || h.Get("Content-Encoding") != "" {
		return 0, false
	}
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return int(n), err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json"))
}

// hold begins to hold the answer, if its call asks for it.
func (w *responseWriter) hold(status int) bool {
	if w.committed || w.held != nil || w.born == nil {
		return w.held != nil
	}
	n, ok := mayHold(w.Header(), status)
	if ok {
		w.held = &heldBody{want: n}
		w.wait(status)
	}
	return ok
}

// keep takes what is written while the answer is held, and lets it go when it is
// whole.
func (w *responseWriter) keep(b []byte) (int, error) {
	part := b[:min(len(b), w.held.want-len(w.held.body))]
	w.held.body = append(w.held.body, part...)
	if len(w.held.body) < w.held.want {
		return len(b), nil
	}
	if err := w.letGo(); err != nil {
		return 0, err
	}
	if len(part) == len(b) {
		return len(b), nil
	}
	n, err := w.Write(b[len(part):]) // more than was announced is the server's to refuse
	return len(part) + n, err
}

// letGo sends what is held, whole or not: it is called when the answer is
// complete, when its handler has returned, and when that has panicked.
func (w *responseWriter) letGo() error {
	held := w.held
	if held == nil {
		return nil
	}
	w.held = nil
	w.born(held.body)
	w.begin(w.waiting.header, w.waiting.status)
	if len(held.body) == 0 {
		return w.letHeaderGo()
	}
	_, err := w.Write(held.body)
	return err
}
