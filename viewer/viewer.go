// Package viewer serves audit logs to those whom they are about: an API, which answers
// clients of the reference product unchanged, exports, and a page. It reads through a
// store's Browser and asks a Gate who may read. It knows no Caddy.
package viewer

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/viewer/page"
)

// The defaults of Options.
const (
	// DefaultMaxRange is how much time one request may ask for.
	DefaultMaxRange = 366*24*time.Hour + 5*time.Minute
	// DefaultTimeout bounds how long one answer of the API or of the page is searched for.
	DefaultTimeout = 10 * time.Second
	// DefaultMaxExports bounds how many exports there are at one time.
	DefaultMaxExports = 32
)

// Options are what a Viewer needs. Open, Gate and Record must be set.
type Options struct {
	// Open opens what is read. The Viewer closes it.
	Open func(ctx context.Context) (Log, error)
	Gate Gate
	// Store is the name of what is read: gaps of other stores are not told. Default: all
	// gaps are.
	Store string
	// Readable says how far back each plan may read. Default: all that is kept.
	Readable *audit.Readable
	// Record makes an event of the sidecar durable: nothing is exported, and no operator
	// sees anything, before it has returned nil. It is called again with a higher revision
	// when an export has ended.
	Record func(e *audit.Entry) error
	// Key signs cursors; a restart with another one makes old ones invalid.
	Key [32]byte
	// MaxRange bounds the time that one request asks for. Default: DefaultMaxRange.
	MaxRange time.Duration
	// Timeout bounds an answer that is no export. Default: DefaultTimeout.
	Timeout time.Duration
	// MaxExports bounds the exports at one time, over all; one reader has four at most.
	// Default: DefaultMaxExports.
	MaxExports int
	// UpgradeURL is where a plan is changed that may not read. Default: no link.
	UpgradeURL string
	// SignInURL is where the page sends who has not signed in. Default: no link.
	SignInURL string
	// Observe is told of each answer: which route, which status, how long it took. It
	// may be nil.
	Observe func(route string, status int, took time.Duration)
	// Exported is told of each export that ended: how many entries went out, and whether
	// all of them. It may be nil.
	Exported func(entries int, whole bool)
	Logger   *slog.Logger
}

// Log is a store that is open for reading.
type Log interface {
	forwarder.Browser
	Close() error
}

// Viewer is an http.Handler. It is safe for concurrent use.
type Viewer struct {
	o       Options
	mux     *http.ServeMux
	shelf   *shelf
	exports *slots
	reads   *slots        // of all that is no export
	counts  chan struct{} // has room for those who count
	counted *slots        // who does or waits to

	troubles troubles
}

const (
	// maxReads bounds the answers that are no exports and are under way at one time, and
	// readsEach those of one visitor.
	maxReads  = 128
	readsEach = 8
)

// New makes a Viewer.
func New(o Options) (*Viewer, error) {
	if o.Open == nil || o.Gate == nil || o.Record == nil {
		return nil, errors.New("making a viewer: it has nothing to read, nobody to ask, or nowhere to record")
	}
	if o.Readable == nil {
		o.Readable = new(audit.Readable)
	}
	orDefault(&o.MaxRange, DefaultMaxRange)
	orDefault(&o.Timeout, DefaultTimeout)
	orDefault(&o.MaxExports, DefaultMaxExports)
	if o.Observe == nil {
		o.Observe = func(string, int, time.Duration) {}
	}
	if o.Exported == nil {
		o.Exported = func(int, bool) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	v := &Viewer{o: o, mux: http.NewServeMux(), shelf: &shelf{open: o.Open}, exports: newSlots(o.MaxExports, exportsEach), reads: newSlots(maxReads, readsEach), counted: newSlots(maxReads, 1), counts: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	for _, r := range routes {
		v.mux.Handle(r.pattern, v.handler(r))
	}
	return v, nil
}

func orDefault[T time.Duration | int](v *T, byDefault T) {
	if *v == 0 {
		*v = byDefault
	}
}

// route is one thing that can be asked for.
type route struct {
	pattern string
	name    string // in metrics and logs
	page    bool   // errors are pages
	serve   func(v *Viewer, w http.ResponseWriter, r *http.Request) error
}

var routes = []route{
	{"GET /platform/organizations/{slug}/audit", "audit", false, (*Viewer).serveList},
	{"GET /platform/organizations/{slug}/audit/counts", "counts", false, (*Viewer).serveCounts},
	{"GET /platform/organizations/{slug}/audit/entries/{id}", "entry", false, (*Viewer).serveEntry},
	{"GET /platform/organizations/{slug}/audit/export", "export", false, (*Viewer).serveExport},
	{"GET /platform/profile/audit", "profile", false, (*Viewer).serveProfile},
	{"GET /openapi.json", "openapi", false, (*Viewer).serveOpenAPI},
	{"GET /organizations/{slug}/audit", "page", true, (*Viewer).servePage},
	{"GET /organizations/{slug}/audit/entries/{id}", "page_entry", true, (*Viewer).serveEntryPage},
	{"GET /{$}", "start", true, (*Viewer).serveStart},
	{"GET /assets/{name}", "asset", false, (*Viewer).serveAsset},
	{"/", "not_found", false, func(*Viewer, http.ResponseWriter, *http.Request) error {
		return errNoPage
	}},
}

// Close closes what is read, as soon as nobody reads it any more.
func (v *Viewer) Close() error { return v.shelf.close() }

// ServeHTTP implements http.Handler.
func (v *Viewer) ServeHTTP(w http.ResponseWriter, r *http.Request) { v.mux.ServeHTTP(w, r) }

// handler puts around a route what all have in common.
func (v *Viewer) handler(to route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", page.Policy)
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Vary", "Authorization, Cookie")
		s := &statusWriter{ResponseWriter: w}
		defer func() { v.o.Observe(to.name, s.status(), time.Since(began)) }() // also of one that is cut
		if err := to.serve(v, s, r); err != nil {
			v.fail(s, r, to, err)
		} else if over := v.troubles.answered(to.name); over != nil {
			v.o.Logger.Info("readers of the audit log are answered again",
				"route", to.name, "failures", over.failures, "after", time.Since(over.since).Round(time.Millisecond))
		}
	})
}

// statusWriter remembers what was answered.
type statusWriter struct {
	http.ResponseWriter
	code int
}

func (w *statusWriter) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) status() int {
	if w.code == 0 {
		return http.StatusOK
	}
	return w.code
}
