package caddymodule

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
)

func init() {
	caddy.RegisterModule(Handler{})
}

const (
	// callVar marks a request that a handler of ours has in hand, so that a
	// second one on its way does not record it twice.
	callVar = "audit_log.call"

	// auditIDHeader carries the entry's id to the API and to the client, so
	// that their logs can be joined with ours.
	auditIDHeader = "Audit-Id"

	// reserveBytes is the room that is kept for a call's end before the call
	// is let through. Only an entry made to be large takes more.
	reserveBytes = 16 << 10

	// retryAfterSeconds is what a refused caller is told to wait.
	retryAfterSeconds = 5
)

// Handler records each call that passes through it as an audit entry. Calls
// that may change something (any method but GET, HEAD and OPTIONS, a method
// override, an upgrade) go on only when their intent is on disk, and every
// answer leaves only when its outcome is.
//
// It belongs before everything that may answer; its directive is ordered so.
type Handler struct {
	// Platform names the API behind: which routes it has, what they are done
	// to, and which credentials it knows. "supabase" knows its Management API
	// and its dashboard's; "generic" knows no API and makes route templates of
	// paths by what looks like an id. Default: "generic".
	Platform string `json:"platform,omitempty"`

	// Rules say how calls are recorded; the first that matches counts.
	// Default: changing calls "metadata" and "strict", others "metadata" and
	// "answer".
	Rules []*Rule `json:"rules,omitempty"`

	// Issuers make the JWTs that are believed once their signature is checked.
	// Without one, what a JWT says stands under actor.claimed.
	Issuers []*Issuer `json:"issuers,omitempty"`

	// DefinedAt is the file and line of the directive, for error messages. A
	// Caddyfile fills it in by itself.
	DefinedAt string `json:"defined_at,omitempty"`

	app         *App
	platform    *audit.Platform
	verifier    audit.Verifier // nil without issuers
	configHash  string
	policyLines []string
	log         *slog.Logger
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.audit_log", New: func() caddy.Module { return new(Handler) }}
}

// Provision sets the handler up. Without the global option audit_log it uses
// an app with all defaults.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.log = ctx.Slogger()
	name, err := caddy.NewReplacer().ReplaceOrErr(h.Platform, true, true)
	if err != nil {
		return h.wrong("platform %q: %w", h.Platform, err)
	}
	switch name {
	case "supabase":
		h.platform = audit.Supabase()
	case "", "generic":
		h.platform = audit.Generic()
	default:
		return h.wrong("platform %q is not known: this version knows generic and supabase", name)
	}
	app, err := ctx.App("audit_log")
	if err != nil {
		return err
	}
	h.app = app.(*App)
	if h.configHash, err = hashConfig(h); err != nil {
		return err
	}
	if err := h.provisionIssuers(); err != nil {
		return err
	}
	h.policyLines = h.describe()
	for _, r := range h.Rules {
		if err := r.provision(ctx); err != nil {
			return h.wrong("rule %s: %w", r.Name, err)
		}
	}
	h.app.mu.Lock()
	defer h.app.mu.Unlock()
	h.app.handlers = append(h.app.handlers, h)
	h.app.http = httpApp(ctx)
	return nil
}

func (h *Handler) provisionIssuers() error {
	for _, i := range h.Issuers {
		if err := i.provision(h.platform, h.log); err != nil {
			return h.wrong("issuer %s: %w", i.URL, err)
		}
	}
	if len(h.Issuers) == 0 {
		return nil
	}
	v, err := newVerifier(h.Issuers)
	if err != nil {
		return h.wrong("%w", err)
	}
	h.verifier = v
	return nil
}

func (h *Handler) wrong(format string, args ...any) error {
	err := fmt.Errorf("audit_log: "+format, args...)
	if h.DefinedAt != "" {
		err = fmt.Errorf("%s: %w", h.DefinedAt, err)
	}
	return err
}

// hashConfig identifies what the handler was told to do, and not where that
// stands.
func hashConfig(h *Handler) (string, error) {
	c := *h
	c.DefinedAt = ""
	b, err := json.Marshal(&c)
	if err != nil {
		return "", err
	}
	hash := sha256.Sum256(b)
	return hex.EncodeToString(hash[:8]), nil
}

// ServeHTTP is a call's way: snapshot, entry, admission, intent, API, outcome.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if c, ok := caddyhttp.GetVar(r.Context(), callVar).(*call); ok {
		return c.again(w, r, next)
	}
	arrived := time.Now()
	r.Header.Del(auditIDHeader) // nobody but us gives one
	rule := h.ruleFor(r)
	s, err := h.app.hold()
	if err != nil {
		// Nothing is open, so nothing can count it either.
		h.log.Error("refusing a call: the audit buffer is not open", "error", err)
		return refuse(w)
	}
	defer s.release()
	if rule.Level == audit.LevelNone {
		s.buf.Exclude()
		return next.ServeHTTP(w, r)
	}

	c := &call{handler: h, request: r, api: next}
	d := audit.Deriver{Platform: h.platform, Key: s.key, Verifier: h.verifier, ConfigHash: h.configHash}
	c.entry, c.changing = d.Intent(snapshot(r, arrived))
	c.entry.Policy.Rule, c.entry.Policy.Level = rule.Name, rule.Level
	if rule.Durability != "" {
		c.entry.Policy.Durability = rule.Durability
	}
	w.Header().Set(auditIDHeader, c.entry.ID)
	if c.record, err = s.buf.Admit(reserveBytes); err != nil {
		return refuse(w)
	}
	defer c.record.Release()
	if c.entry.Policy.Durability == audit.DurabilityStrict {
		if err := c.begin(); err != nil {
			return refuse(w)
		}
	}
	caddyhttp.SetVar(r.Context(), callVar, c)
	r.Header.Set(auditIDHeader, c.entry.ID)
	return c.serve(w)
}

// snapshot takes what later handlers may change. The strings are shared with
// the request, which does not change them.
func snapshot(r *http.Request, arrived time.Time) *audit.Call {
	ctx, header := r.Context(), r.Header
	c := &audit.Call{
		Arrived: arrived, Method: r.Method, Host: r.Host, Path: r.URL.EscapedPath(),
		Authorization: header.Get("Authorization"), APIKey: header.Get("Apikey"),
		UserAgent: header.Get("User-Agent"), TraceParent: header.Get("Traceparent"),
		PeerIP: hostOf(r.RemoteAddr), Bytes: r.ContentLength,
		Upgrade: header.Get("Upgrade") != "",
		MethodOverride: header.Get("X-Http-Method-Override") != "" || header.Get("X-Http-Method") != "" ||
			header.Get("X-Method-Override") != "",
	}
	c.SeveralCredentials = len(header["Authorization"]) > 1 || c.Authorization == "" && len(header["Apikey"]) > 1
	// A handler before ours may have rewritten the request already.
	if o, ok := ctx.Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && o.URL != nil {
		c.Method, c.Path = o.Method, o.URL.EscapedPath()
	}
	if ip, ok := caddyhttp.GetVar(ctx, caddyhttp.ClientIPVarKey).(string); ok {
		c.ClientIP = ip
		c.Forwarded = ip != c.PeerIP
	}
	if repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		c.RequestID, _ = repl.GetString("http.request.uuid")
	}
	return c
}

// hostOf is the address without its port; a unix socket's peer has none.
func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return host
}

// refuse answers a call that is not let through.
func refuse(w http.ResponseWriter) error {
	const body = `{"type":"about:blank","title":"Service Unavailable","status":503,` +
		`"detail":"The audit record of this call could not be made, so the call was not carried out. Try again later."}` + "\n"
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Retry-After", strconv.Itoa(retryAfterSeconds))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = w.Write([]byte(body)) // after an error there is nobody to tell
	return nil
}

// call is one call on its way through the handler.
type call struct {
	handler *Handler
	request *http.Request
	api     caddyhttp.Handler
	entry   *audit.Entry
	record  *buffer.Call
	// changing says that the call may have an effect.
	changing bool
	// failed says that the handlers behind returned an error and wrote nothing.
	failed bool
}

// begin makes the intent durable. After an error the call is refused, and an
// entry that says so is recorded as soon as the disk takes it.
func (c *call) begin() error {
	start := time.Now()
	intent, err := c.entry.Encode()
	if err == nil {
		err = c.record.Begin(intent)
	}
	waited(intentOverhead, start)
	if err == nil {
		return nil
	}
	c.entry.Refused(time.Now(), http.StatusServiceUnavailable)
	if refused, encodeErr := c.entry.Encode(); encodeErr == nil {
		_ = c.record.Refuse(refused)
	}
	return err
}

// serve hands the call on and sees to it that its outcome is recorded, however
// the handlers behind end.
func (c *call) serve(w http.ResponseWriter) (err error) {
	rw := newResponseWriter(w, c.request, c.headers)
	defer func() {
		if p := recover(); p != nil {
			c.panicked(rw)
			panic(p)
		}
	}()
	err = c.api.ServeHTTP(rw, c.request)
	c.returned(rw, err)
	return err // as it is: Caddy asserts its type
}

// returned records what the handlers behind did not write, before the answer
// to it can leave, or what changed after the headers.
func (c *call) returned(rw *responseWriter, err error) {
	if rw.committed {
		c.ended(rw)
		return
	}
	a := audit.Answer{At: time.Now(), Status: http.StatusOK, Source: audit.StatusDefault, Bytes: 0}
	if err != nil {
		a.Status, a.Source, a.Bytes = http.StatusInternalServerError, audit.StatusError, -1
		var he caddyhttp.HandlerError
		if errors.As(err, &he) && he.StatusCode != 0 {
			a.Status = he.StatusCode
		}
	}
	a.ClientGone = c.request.Context().Err() != nil
	c.failed = err != nil
	c.answered(a)
}

// again serves a call that a handler of ours has in hand. On its way to the API
// there is nothing to add. In an error route, though, the answer is written
// that the client really gets; where its status differs from the error's, which
// is on record, a further revision says so before it leaves.
func (c *call) again(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !c.failed {
		return next.ServeHTTP(w, r)
	}
	return next.ServeHTTP(newResponseWriter(w, r, c.errorAnswered), r)
}

// errorAnswered records the status that an error route writes.
func (c *call) errorAnswered(h http.Header, status int) {
	if status == c.entry.Action.Status {
		return
	}
	c.entry.Answered(audit.Answer{
		At: time.Now(), Status: status, Source: audit.StatusWritten, Bytes: contentLength(h), ClientGone: c.entry.ClientGone, Changing: c.changing,
	})
	// The call has been released, and the buffer with it.
	s, err := c.handler.app.hold()
	if err == nil {
		defer s.release()
		var payload []byte
		if payload, err = c.entry.Encode(); err == nil {
			err = s.buf.Append(payload)
		}
	}
	if err != nil {
		c.handler.log.Error("recording the answer of an error route; the entry stands with the error's status",
			"id", c.entry.ID, "error", err)
	}
}

// panicked records a call whose handlers ended in a panic, as the reverse proxy
// does when the API dies in the middle of its answer.
func (c *call) panicked(rw *responseWriter) {
	if !rw.committed {
		c.answered(audit.Answer{At: time.Now(), Bytes: -1, ClientGone: c.request.Context().Err() != nil})
		return
	}
	c.entry.Action.Metadata = map[string]any{"aborted": true}
	c.revise(rw)
}

// ended records a further revision if the end of the answer differs from what
// its headers said.
func (c *call) ended(rw *responseWriter) {
	announced := c.entry.ResponseBytes
	switch {
	case rw.hijacked, rw.failed, announced != nil && *announced != rw.sent.Load():
		c.revise(rw)
	}
}

// revise appends a revision with what is known at the end. Nobody waits for it.
func (c *call) revise(rw *responseWriter) {
	c.entry.Answered(audit.Answer{
		At: time.Now(), Status: c.entry.Action.Status, Source: c.entry.Action.StatusSource,
		Bytes: rw.sent.Load(), ClientGone: c.entry.ClientGone || rw.failed, Changing: c.changing,
	})
	payload, err := c.entry.Encode()
	if err == nil {
		err = c.record.AppendLater(payload)
	}
	if err != nil {
		c.handler.log.Error("recording the end of a call; its entry stands as it was at the headers",
			"id", c.entry.ID, "error", err)
	}
}

// answered makes the outcome durable before it returns, or after max_wait lets
// the answer go: a client must never be told to repeat what was done.
func (c *call) answered(a audit.Answer) {
	start := time.Now()
	a.Changing = c.changing
	c.entry.Answered(a)
	payload, err := c.entry.Encode()
	switch {
	case err != nil:
	case c.entry.Policy.Durability == audit.DurabilityRelaxed:
		err = c.record.AppendLater(payload)
	default:
		err = c.record.Append(payload)
	}
	waited(outcomeOverhead, start)
	if err == nil {
		return
	}
	lateAnswers.Inc()
	if !errors.Is(err, buffer.ErrSlow) {
		c.handler.log.Error("recording the outcome of a call", "id", c.entry.ID, "error", err)
	}
}

// headers records the answer whose headers are about to be written.
func (c *call) headers(h http.Header, status int) {
	h.Set(auditIDHeader, c.entry.ID) // the API's own, if it sent one back, is gone
	a := audit.Answer{
		At: time.Now(), Status: status, Source: audit.StatusWritten, RequestID: h.Get("X-Request-Id"), Bytes: -1,
		ClientGone: c.request.Context().Err() != nil,
	}
	switch {
	case c.request.Method == http.MethodHead, status == http.StatusNoContent, status == http.StatusNotModified:
		a.Bytes = 0 // a length, if there is one, is that of another answer
	default:
		a.Bytes = contentLength(h)
	}
	c.answered(a)
}

// contentLength is the announced length of an answer's body, or -1.
func contentLength(h http.Header) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(h.Get("Content-Length")), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
