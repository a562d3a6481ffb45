package viewer

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
)

// unavailable says that something cannot be had now, which is no fault of the visitor.
type unavailable struct {
	what string
	err  error
}

func (u *unavailable) Error() string { return u.what + ": " + u.err.Error() }
func (u *unavailable) Unwrap() error { return u.err }

// badRequest is a DeniedError for what the visitor asks for.
func badRequest(message string) error {
	return &DeniedError{Status: http.StatusBadRequest, Message: "Bad request: " + message}
}

// errBusy is told to who has many lists and exports going on, or where there are too many
// of everybody's.
var errBusy = &DeniedError{Status: http.StatusTooManyRequests, Message: "Too many requests: other exports are going on; try again when they have ended, or ask for pages with limit"}

// errSlow is what an answer that takes too long becomes.
var errSlow = &DeniedError{Status: http.StatusServiceUnavailable, Message: "The search took too long: choose a shorter range, or another filter"}

// fail answers an error. What is no DeniedError is logged, the first of a row, and told to
// nobody: it may say what a visitor must not know.
func (v *Viewer) fail(w *statusWriter, r *http.Request, to route, err error) {
	d, ok := errors.AsType[*DeniedError](err)
	_, away := errors.AsType[*unavailable](err)
	switch {
	case ok:
	case r.Context().Err() != nil, errors.Is(err, errGone):
		if w.code != 0 {
			panic(http.ErrAbortHandler)
		}
		return // nobody listens any more
	case !away && errors.Is(err, context.DeadlineExceeded):
		d = errSlow
	case errors.Is(err, errExpired):
		d = ErrNoVisitor
	default:
		if v.troubles.failed(to.name, err) {
			v.o.Logger.Error("answering readers of the audit log; until it succeeds, they get 503 or 500", "route", to.name, "error", err)
		}
		d = &DeniedError{Status: http.StatusInternalServerError, Message: "The audit log cannot be read right now. Try again later"}
		if away {
			d.Status = http.StatusServiceUnavailable
			w.Header().Set("Retry-After", "5")
		}
	}
	if w.code != 0 {
		// The answer has begun, and must not look whole.
		panic(http.ErrAbortHandler)
	}
	if d.Status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "10")
	}
	if d.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="audit log"`)
	}
	for _, name := range []string{"Content-Length", "Content-Encoding", "Content-Disposition", "Trailer"} {
		w.Header().Del(name)
	}
	if to.page {
		v.failPage(w, r, d)
		return
	}
	writeJSON(w, d.Status, map[string]string{"message": d.Message})
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // after an error there is nobody to tell
}
