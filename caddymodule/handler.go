package caddymodule

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/catalogs"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/identity"
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
	reserveBytes = operator.EndRoom

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

	// Catalogs describe the site's own API, over what the platform knows; later
	// ones go over earlier ones. Default: none.
	Catalogs []*catalogs.Catalog `json:"catalogs,omitempty"`

	// Rules say how calls are recorded; the first that matches counts. Where none
	// does, changing calls are recorded at the level "metadata" with the durability
	// "strict", and others with "answer"; a site with captures has the level that they
	// need. Default: none.
	Rules []*Rule `json:"rules,omitempty"`

	// Issuers make the JWTs that are believed once their signature is checked.
	// Without one, what a JWT says stands under actor.claimed. Default: none.
	Issuers []*Issuer `json:"issuers,omitempty"`

	// Tokens say how the site's own credentials look, beside those that the
	// platform knows. Default: none.
	Tokens []*Token `json:"tokens,omitempty"`

	// Credentials are where a call may present one, beside the Authorization and
	// Apikey headers; eight at most. Default: none.
	Credentials []*CredentialPlace `json:"credentials,omitempty"`

	// Lookups are the services that are asked whose a credential is that no
	// signature proves. The first that serves its type is asked. Default: none.
	//
	// Caddyfile: introspect <url>, or profile <url>
	Lookups []*Lookup `json:"lookups,omitempty"`

	// Capture is what of a call is recorded beside its metadata. Default: what the
	// platform's and the catalogs' operations name.
	Capture *Capture `json:"capture,omitempty"`

	// Fold bounds what a flood of refused reads costs. Default: 1000 calls each minute.
	Fold Fold `json:"fold,omitzero"`

	// AnswerHeaders are headers of the API's answer that are believed, by the
	// field that each fills: user_id, email, session_id, jwt_role, oauth_app_id,
	// oauth_app_name, token_scope, token_type, kind, on_behalf_of,
	// organization_id, organization_slug, organization_plan. If they name somebody,
	// the entry's verification is "asserted". They never replace what a signature
	// proves.
	//
	// They are taken away from every answer, trailers and 1xx included, so that
	// no client sees them, and from every request, so that none can make the API
	// send them back. Let nothing but the API answer behind this handler. Default: none.
	AnswerHeaders map[string]string `json:"answer_headers,omitempty"`

	// DefinedAt is the file and line of the directive, for error messages. Default: in a
	// Caddyfile where it stands, else nothing.
	//
	// Caddyfile: none
	DefinedAt string `json:"defined_at,omitempty"`

	app          *App
	platform     *audit.Platform
	verifier     audit.Verifier // nil without issuers
	places       []audit.Place
	lookups      *identity.Lookups // nil without any
	trusted      answerHeaders
	selections   selections
	captureLimit int
	// defaultRule is for calls that no rule matches.
	defaultRule *Rule
	folds       *folder
	// lookupsInClear says that credentials go over the network in clear.
	lookupsInClear bool
	configHash     string
	policyLines    []string
	log            *slog.Logger
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.audit_log", New: func() caddy.Module { return new(Handler) }}
}

// Provision sets the handler up. Without the global option audit_log it uses
// an app with all defaults.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.log = ctx.Slogger()
	if err := h.choosePlatform(); err != nil {
		return err
	}
	app, err := ctx.App("audit_log")
	if err != nil {
		return err
	}
	h.app = app.(*App)
	if h.configHash, err = hashConfig(h); err != nil {
		return err
	}
	if h.trusted, err = newAnswerHeaders(h.AnswerHeaders); err != nil {
		return h.wrong("answer_header: %w", err)
	}
	for _, provision := range []func() error{h.provisionCatalogs, h.provisionCredentials, h.provisionCapture, h.provisionIssuers, h.provisionLookups} {
		if err := provision(); err != nil {
			return err
		}
	}
	if err := h.Fold.check(); err != nil {
		return h.wrong("%w", err)
	}
	h.folds = newFolder(h.Fold)
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

func (h *Handler) choosePlatform() error {
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
	return nil
}

func (h *Handler) provisionIssuers() error {
	var issuers []*identity.Issuer
	for _, i := range h.Issuers {
		if err := i.provision(h.platform, h.log); err != nil {
			return h.wrong("issuer %s: %w", i.URL, err)
		}
		issuers = append(issuers, i.identity)
	}
	if len(issuers) == 0 {
		return nil
	}
	v, err := identity.NewVerifier(issuers, observeVerification)
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
		return c.again(h, w, r, next)
	}
	arrived := time.Now()
	r.Header.Del(auditIDHeader) // nobody but us gives one
	h.trusted.stripRequest(r)
	keepHeaders(r.Header, h.places)
	rule := h.ruleFor(r)
	s, err := h.app.hold()
	if err != nil {
		// Nothing is open, so no term can count it.
		if h.app.notOpen.CompareAndSwap(false, true) {
			h.log.Error("refusing calls: the audit buffer is not open", "error", err)
		}
		observeRefusal(buffer.ErrClosed)
		return refuse(w)
	}
	defer s.release()
	if h.app.notOpen.Load() && h.app.notOpen.CompareAndSwap(true, false) {
		h.log.Info("the audit buffer is open, and calls are let through again")
	}
	if s.seesLookup(w, r) {
		return nil
	}
	if rule.Level == audit.LevelNone {
		rule = h.kept(rule, r)
	}
	if rule.Level == audit.LevelNone {
		s.buf.Exclude()
		return h.unrecorded(w, r, next)
	}

	c := &call{handler: h, request: r, api: next, known: s.known, directory: s.directory}
	c.entry, c.facts = h.deriver(s.key).Intent(snapshot(r, arrived, h.places))
	if c.facts.Operation == nil && h.platform.Catalog != nil {
		unmatchedCalls.Inc()
	}
	c.entry.Policy.Rule, c.entry.Policy.Level = rule.Name, rule.Level
	if rule.Durability != "" {
		c.entry.Policy.Durability = rule.Durability
	}
	c.capture(rule.Level)
	w.Header().Set(auditIDHeader, c.entry.ID)
	if c.record, err = s.buf.Admit(c.room(), c.caller()); err != nil {
		observeRefusal(err)
		return refuse(w)
	}
	defer c.record.Release()
	if c.entry.Policy.Durability == audit.DurabilityStrict {
		if err := c.begin(); err != nil {
			observeRefusal(err)
			return refuse(w)
		}
	}
	if c.record.Passed() {
		w.Header().Del(auditIDHeader)             // there is no such entry
		caddyhttp.SetVar(r.Context(), callVar, c) // it is counted, once
		return h.unrecorded(w, r, next)
	}
	caddyhttp.SetVar(r.Context(), callVar, c)
	r.Header.Set(auditIDHeader, c.entry.ID)
	return c.serve(w)
}

func (h *Handler) deriver(key *audit.TokenKey) *audit.Deriver {
	d := &audit.Deriver{Platform: h.platform, Key: key, Verifier: h.verifier, ConfigHash: h.configHash}
	if h.lookups != nil {
		d.Memory = h.lookups
	}
	return d
}

// unrecorded serves a call that a rule excludes. What is between the API and us
// stays between us all the same.
func (h *Handler) unrecorded(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if len(h.trusted) == 0 {
		return next.ServeHTTP(w, r)
	}
	defer h.trusted.strip(w.Header()) // trailers
	return next.ServeHTTP(newResponseWriter(w, r, h.trusted, func(http.Header, int) {}), r)
}

// snapshot takes what later handlers may change. The strings are shared with
// the request, which does not change them.
func snapshot(r *http.Request, arrived time.Time, places []audit.Place) *audit.Call {
	ctx, header := r.Context(), r.Header
	c := &audit.Call{
		Arrived: arrived, Method: r.Method, Host: r.Host, Path: r.URL.EscapedPath(),
		UserAgent: header.Get("User-Agent"), TraceParent: header.Get("Traceparent"),
		PeerIP: hostOf(r.RemoteAddr), Bytes: r.ContentLength,
		Upgrade:        header.Get("Upgrade") != "",
		MethodOverride: methodOverride(header),
	}
	at := r.URL
	// A handler before ours may have rewritten the request already.
	if o, ok := ctx.Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && o.URL != nil {
		c.Method, c.Path = o.Method, o.URL.EscapedPath()
		at = o.URL
	}
	presented(c, places, r, at)
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		c.Certificate = r.TLS.VerifiedChains[0][0]
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

// methodOverride is the method that a header names instead of the request line's,
// to APIs that look at it.
func methodOverride(h http.Header) string {
	return cmp.Or(h.Get("X-Http-Method-Override"), h.Get("X-Http-Method"), h.Get("X-Method-Override"))
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
func refuse(w http.ResponseWriter) error { return unavailable(w, "the call was not carried out") }

// withhold answers a read whose true answer must not leave.
func withhold(w http.ResponseWriter) error {
	return unavailable(w, "its answer is withheld. It changed nothing")
}

func unavailable(w http.ResponseWriter, so string) error {
	body := `{"type":"about:blank","title":"Service Unavailable","status":503,` +
		`"detail":"The audit record of this call could not be made, so ` + so + `. Try again later."}` + "\n"
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Retry-After", strconv.Itoa(retryAfterSeconds))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = w.Write([]byte(body)) // after an error there is nobody to tell
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
