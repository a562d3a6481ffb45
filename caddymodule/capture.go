package caddymodule

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/syntax"
)

const (
	defaultCaptureLimit = 16 << 10
	maxCaptureLimit     = 1 << 20
)

// Capture is the site's allow-list: what of a call is recorded beside its
// metadata, under action.metadata, and nothing else. Operations of the platform
// and of the site's catalogs have lists of their own, which count as well. What
// looks like a secret is masked all the same.
//
// It counts at the levels "request" and "request_response". A site with captures
// has the one that they need as its default.
type Capture struct {
	// Body are paths from the root of a request's body (JSON or a form): names
	// joined by dots, as in invitation.role; * is each element of a list, \. a
	// dot in a name. A path to an object or a list takes all of it. The suffix
	// :sql makes a text an SQL statement, whose literals are masked. Default: none.
	//
	// Caddyfile: capture body <path...>
	Body []string `json:"body,omitempty"`

	// Query are the names of query parameters. Default: none.
	//
	// Caddyfile: capture query <name...>
	Query []string `json:"query,omitempty"`

	// Header are the names of request headers. Default: none.
	//
	// Caddyfile: capture header <name...>
	Header []string `json:"header,omitempty"`

	// Response are paths from the root of the answer's body. They come as a
	// further revision, since the entry is durable before the answer leaves. Default:
	// none.
	//
	// Caddyfile: capture response <path...>
	Response []string `json:"response,omitempty"`

	// Limit bounds how much of a body is looked at, in bytes: what stands beyond
	// it is not captured, and the entry says so. The body itself passes whole,
	// and at once. At most 1 MiB. Default: 16 KiB.
	//
	// Caddyfile: capture limit <size>
	Limit int64 `json:"limit,omitempty"`
}

func (c *Capture) list() audit.Capture {
	return audit.Capture{Body: c.Body, Query: c.Query, Header: c.Header, Response: c.Response}
}

func (c *Capture) isZero() bool { l := c.list(); return l.IsZero() }

// level is what the captures need; the default of a site that has them.
func (c *Capture) level() audit.Level {
	switch {
	case len(c.Response) > 0:
		return audit.LevelRequestResponse
	case !c.isZero():
		return audit.LevelRequest
	default:
		return audit.LevelMetadata
	}
}

// String describes the captures for a reader of audit.config_changed.
func (c *Capture) String() string {
	words := []string{"capture"}
	for _, of := range []struct {
		name string
		list []string
	}{{"body", c.Body}, {"query", c.Query}, {"header", c.Header}, {"response", c.Response}} {
		if len(of.list) > 0 {
			words = append(append(words, of.name), of.list...)
		}
	}
	if c.Limit > 0 {
		words = append(words, "limit", fmt.Sprint(c.Limit))
	}
	return strings.Join(words, " ")
}

// parseCapture reads: capture body|query|header|response <name...>, or: capture
// limit <size>.
func (h *Handler) parseCapture(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 2 {
		return d.Errf("capture takes a place and names, as in: capture body name region plan, or: capture query dry_run")
	}
	if h.Capture == nil {
		h.Capture = new(Capture)
	}
	lists := map[string]*[]string{"body": &h.Capture.Body, "query": &h.Capture.Query, "header": &h.Capture.Header, "response": &h.Capture.Response}
	switch list := lists[args[0]]; {
	case list != nil:
		*list = append(*list, args[1:]...)
		if _, err := audit.NewSelection(nil, h.Capture.list()); err != nil {
			return d.Errf("capture: %w", err)
		}
	case args[0] == "limit" && len(args) == 2:
		var err error
		if h.Capture.Limit, err = syntax.Size(args[1]); err != nil {
			return d.Errf("capture limit %w", err)
		}
	default:
		return d.Errf("capture %s is not known: choose body, query, header, response or limit", args[0])
	}
	return nil
}

// selections are the allow-lists of a site, by the operation; nil is that of all
// others.
type selections map[*audit.Operation]*audit.Selection

func (s selections) of(op *audit.Operation) *audit.Selection {
	if own, ok := s[op]; ok {
		return own
	}
	return s[nil]
}

func (h *Handler) provisionCapture() error {
	own := Capture{}
	if h.Capture != nil {
		own = *h.Capture
	}
	if own.Limit < 0 || own.Limit > maxCaptureLimit {
		return h.wrong("capture limit: %d is not between 1 byte and 1 MiB", own.Limit)
	}
	if h.captureLimit = int(own.Limit); h.captureLimit == 0 {
		h.captureLimit = defaultCaptureLimit
	}
	h.defaultRule = &Rule{Name: "default", Level: own.level()}
	h.selections = selections{}
	add := func(op *audit.Operation, lists ...audit.Capture) error {
		s, err := audit.NewSelection(h.platform, lists...)
		if err == nil {
			err = s.Check(h.places...)
		}
		if err == nil {
			h.selections[op] = s
		}
		return err
	}
	if err := add(nil, own.list()); err != nil {
		return h.wrong("capture: %w", err)
	}
	for op := range h.platform.Catalog.Operations() {
		if op.Capture.IsZero() {
			continue
		}
		if err := add(op, own.list(), op.Capture); err != nil {
			return h.wrong("capture of %s %s: %w", op.Method, op.Template, err)
		}
	}
	return nil
}

// capture takes what is allowed of the request's query and headers, and makes
// what passes of its body be looked at.
func (c *call) capture(level audit.Level) {
	if level != audit.LevelRequest && level != audit.LevelRequestResponse {
		return
	}
	c.selection = c.handler.selections.of(c.facts.Operation)
	r := c.request
	if query := c.selection.Query(r.URL.RawQuery); query != nil {
		c.note("query", query)
	}
	if header := c.selection.Header(func(name string) []string { return r.Header[name] }); header != nil {
		c.note("header", header)
	}
	if c.selection.Body() && r.Body != nil && r.Body != http.NoBody {
		c.body = &capturedBody{
			ReadCloser: r.Body,
			seen:       c.selection.NewBody(r.Header.Get("Content-Type"), encodings(r.Header), false, c.handler.captureLimit),
		}
		r.Body = c.body
	}
}

// encodings are all of a body's, in their order.
func encodings(h http.Header) string { return strings.Join(h.Values("Content-Encoding"), ", ") }

// captureResponse makes the answer's body be looked at as it passes.
func (c *call) captureResponse(w *responseWriter, h http.Header) {
	if c.entry.Policy.Level == audit.LevelRequestResponse && c.selection.Response() {
		w.seen = c.selection.NewBody(h.Get("Content-Type"), encodings(h), true, c.handler.captureLimit)
	}
}

// captured puts what has been seen of the request's body so far into the entry,
// and reports whether that changed it.
func (c *call) captured() bool {
	if c.body == nil || c.bodyNoted {
		return false
	}
	value, cut, complete := c.body.captured()
	if value == nil {
		return false
	}
	c.bodyNoted = complete
	c.noteBody("body", value, cut)
	return true
}

// capturedResponse does the same for the answer's body, which has ended.
func (c *call) capturedResponse(rw *responseWriter) bool {
	if rw.seen == nil {
		return false
	}
	value := rw.seen.Captured(!rw.failed)
	if value == nil {
		return false
	}
	c.noteBody("response", value, rw.seen.Cut())
	return true
}

func (c *call) noteBody(name string, value any, cut map[string]int) {
	c.note(name, value)
	for path, n := range cut {
		if c.entry.Cut == nil {
			c.entry.Cut = map[string]int{}
		}
		c.entry.Cut["action.metadata."+name+"."+path] = n
	}
}

// capturedBody looks at a request's body as the API reads it. The reader may be
// another goroutine than the call's.
type capturedBody struct {
	io.ReadCloser

	mu       sync.Mutex
	seen     *audit.Body
	complete bool
}

func (b *capturedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	_, _ = b.seen.Write(p[:n]) // never fails
	if err == io.EOF {
		b.complete = true
	}
	return n, err
}

// captured is what has been seen, which strings of it were cut, and whether it
// was the whole body.
func (b *capturedBody) captured() (value any, cut map[string]int, complete bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen.Captured(b.complete), b.seen.Cut(), b.complete
}
