package page

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/syntax"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/identity"
	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
	"github.com/caddy-audit-log/caddy-audit-log/viewer"
	"github.com/caddy-audit-log/caddy-audit-log/viewer/access"
)

func init() {
	caddy.RegisterModule(Viewer{})
}

// Viewer serves audit logs to those whom they are about: a page for each organization, the
// read API of the reference product, and exports. It reads the first store that can be
// read back and gets every entry.
//
// A visitor shows a credential in the Authorization header or in a cookie. Who it is, is
// found out as for calls: by the issuers, introspections and profiles of the audit_log
// handlers of this configuration. Whose log they may read is said by their verified
// credential (claim) or by the platform's API (ask). How far back is said by the plan and
// the global option readable.
//
// Every export is an entry itself, and so is everything that an operator looks at; neither
// happens before that entry is durable.
type Viewer struct {
	// Ask is the API that says who is a member. Default: nobody is asked.
	//
	// Caddyfile: members ask <url>
	Ask *MembersAsk `json:"ask,omitempty"`

	// Claim lets in whoever's verified credential names the organization: see the claims
	// organization_id and organization_slug of an issuer. Default: false.
	//
	// Caddyfile: members claim
	Claim bool `json:"claim,omitempty"`

	// SlugsStay says that a slug is never given to another organization, so that entries of
	// which nothing but a slug is known belong to whoever has the slug now. Where the
	// API tells no id, the slug is all there is, and counts. Default: true on platform
	// supabase, where slugs are made at random, and else false.
	SlugsStay *bool `json:"slugs_stay,omitempty"`

	// Operators are verified actors who may read every organization's log; each look is an
	// entry. Default: none.
	Operators *ViewerOperators `json:"operators,omitempty"`

	// Cookie is the name of a cookie whose value is a session's token, as the platform's
	// dashboard sets it. Without one only the Authorization header counts. Default: none.
	Cookie string `json:"cookie,omitempty"`

	// MaxRange bounds the time that one request may ask for. Default: 366 days and 5
	// minutes.
	MaxRange caddy.Duration `json:"max_range,omitempty"`

	// Timeout bounds how long one answer is searched for. Default: 10s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// MaxExports bounds the exports that go on at one time. One visitor has four at most.
	// Default: 32.
	MaxExports int `json:"max_exports,omitempty"`

	// UpgradeURL is where an organization's plan is changed; the page leads there whose
	// plan has no audit log. Default: no link.
	UpgradeURL string `json:"upgrade_url,omitempty"`

	// SignInURL is where somebody signs in. Default: no link.
	SignInURL string `json:"sign_in_url,omitempty"`

	// DefinedAt is the file and line of the directive, for error messages. Default: in a
	// Caddyfile where it stands, else nothing.
	//
	// Caddyfile: none
	DefinedAt string `json:"defined_at,omitempty"`

	of   Log
	gate *access.Gate
	log  *slog.Logger
	open *openViewer
}

// MembersAsk is the API that says who is a member of an organization: it is asked for the
// organization, with the visitor's own credential, and whoever is given it may read.
type MembersAsk struct {
	// URL has {slug} in its path, whose place the organization takes, as in
	// https://api.example.com/v1/organizations/{slug}. It is asked by GET. 403 and 404 mean
	// no; a redirect is not followed, and more than 1 MiB are not read. That it does not
	// answer those who have no credential is tried every hour. Placeholders are replaced
	// when it is loaded. Required.
	//
	// Caddyfile: members ask <url>
	URL string `json:"url"`

	// ID is where the answer has the organization's immutable id: names joined by dots.
	// Default: id.
	ID string `json:"id,omitempty"`

	// Slug is where it has the organization's slug. Default: slug.
	Slug string `json:"slug,omitempty"`

	// Name is where it has the organization's name. Default: name.
	Name string `json:"name,omitempty"`

	// Plan is where it has the organization's plan. Default: plan.
	Plan string `json:"plan,omitempty"`

	// Role is where it has the visitor's role in the organization. Default: nowhere.
	//
	// Caddyfile: role_at <path>
	Role string `json:"role,omitempty"`

	// Roles are those that may read. Default: every member.
	Roles []string `json:"roles,omitempty"`

	// TTL is how long a yes is believed; a no is for 10s. Default: 1m.
	TTL caddy.Duration `json:"ttl,omitempty"`

	// Timeout bounds one question. Default: 2s.
	Timeout caddy.Duration `json:"timeout,omitempty"`
}

// ViewerOperators are known by what a signature or a service says of them.
type ViewerOperators struct {
	// UserIDs are values of user_id. Default: none.
	//
	// Caddyfile: operators user_id <value...>
	UserIDs []string `json:"user_ids,omitempty"`

	// Emails are values of email. Default: none.
	//
	// Caddyfile: operators email <value...>
	Emails []string `json:"emails,omitempty"`

	// Roles are values of jwt_role. Default: none.
	//
	// Caddyfile: operators role <value...>
	Roles []string `json:"roles,omitempty"`
}

// Log is the audit log that is shown: the app audit_log, which package caddymodule makes.
type Log interface {
	// Join adds a viewer to the app's.
	Join(ctx caddy.Context, v *Viewer)
	// Retention are its stores, and how far back they may be read.
	Retention() *operator.Retention
	// Identify finds out who makes a request, by the means of the sites.
	Identify(r *http.Request) (*audit.Caller, error)
	// Plan is an organization's, if it is known.
	Plan(organization string) (plan string, known bool)
	// SlugsStay reports whether every site's platform is one whose slugs do.
	SlugsStay() bool
	// Record makes an event durable, or says that it is not.
	Record(e *audit.Entry) error
	// CursorKey signs where a reader goes on.
	CursorKey() ([32]byte, error)
}

// errReplaced says that a request came when its configuration had gone.
var errReplaced = errors.New("this configuration has been replaced")

// openViewer is what is made with the first request, since the buffer is not open before.
type openViewer struct {
	mu   sync.Mutex
	made *viewer.Viewer
	gone bool
}

// CaddyModule returns the Caddy module information.
func (Viewer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.audit_log_viewer", New: func() caddy.Module { return new(Viewer) }}
}

// Provision sets the handler up, and asks nobody.
func (v *Viewer) Provision(ctx caddy.Context) error {
	v.log, v.open = ctx.Slogger(), new(openViewer)
	app, err := ctx.App("audit_log")
	if err != nil {
		return err
	}
	var ok bool
	if v.of, ok = app.(Log); !ok {
		return v.wrong("the app audit_log is another than that of the audit log")
	}
	if v.Ask == nil && !v.Claim && v.Operators == nil {
		return v.wrong("it lets nobody in: write members ask URL, members claim, or operators")
	}
	if v.MaxRange < 0 || v.Timeout < 0 || v.MaxExports < 0 {
		return v.wrong("max_range, timeout and max_exports must be above zero")
	}
	for _, link := range []string{v.UpgradeURL, v.SignInURL} {
		if u, err := url.Parse(link); err != nil || link != "" && u.Scheme != "https" && u.Scheme != "http" && !strings.HasPrefix(link, "/") {
			return v.wrong("upgrade_url and sign_in_url are http or https URLs, or paths")
		}
	}
	if v.of.Retention().Stores.Readable() == nil {
		return v.wrong("none of the configured stores can be read back: add one that can, such as sqlite or postgres, or remove audit_log_viewer")
	}
	o := access.Options{
		Identify: v.of.Identify, Cookie: v.Cookie, Claim: v.Claim, Plan: v.of.Plan,
		SlugsStay: v.slugsStay,
	}
	if v.Operators != nil {
		o.Operators = access.Operators(*v.Operators)
	}
	if v.Ask != nil {
		if o.Ask, err = v.Ask.ask(); err != nil {
			return v.wrong("members ask: %w", err)
		}
	}
	if v.gate, err = access.New(o); err != nil {
		return v.wrong("%w", err)
	}
	v.of.Join(ctx, v)
	return nil
}

// Lines says who may read, for a reader of audit.config_changed: somebody who is made an
// operator reads everything.
func (v *Viewer) Lines() (lines []string) {
	if m := v.Ask; m != nil {
		lines = append(lines, fmt.Sprintf("viewer: members ask %s id %q plan %q role_at %q role %q", syntax.ShownURL(m.URL), m.ID, m.Plan, m.Role, m.Roles))
	}
	if v.Claim {
		lines = append(lines, "viewer: members claim")
	}
	if o := v.Operators; o != nil {
		lines = append(lines, fmt.Sprintf("viewer: operators user_id %q email %q role %q", o.UserIDs, o.Emails, o.Roles))
	}
	return append(lines, fmt.Sprintf("viewer: cookie %q slugs_stay %t", v.Cookie, v.slugsStay()))
}

// AsksInClear reports whether visitors' credentials go over the network in clear.
func (v *Viewer) AsksInClear() bool {
	ask, err := v.Ask.ask()
	return err == nil && syntax.InClear(ask.URL)
}

// Cleanup closes what was read.
func (v *Viewer) Cleanup() error {
	if v.open == nil {
		return nil
	}
	v.open.mu.Lock()
	defer v.open.mu.Unlock()
	v.open.gone = true
	if v.open.made == nil {
		return nil
	}
	return v.open.made.Close()
}

func (v *Viewer) wrong(format string, args ...any) error {
	err := fmt.Errorf("audit_log_viewer: "+format, args...)
	if v.DefinedAt != "" {
		err = fmt.Errorf("%s: %w", v.DefinedAt, err)
	}
	return err
}

func (m *MembersAsk) ask() (*access.Ask, error) {
	if m == nil {
		return new(access.Ask), nil
	}
	// The parameter is no placeholder.
	address, err := caddy.NewReplacer().ReplaceOrErr(strings.ReplaceAll(m.URL, "{slug}", "\x00"), true, true)
	if err != nil {
		return nil, err
	}
	return &access.Ask{
		URL: strings.ReplaceAll(address, "\x00", "{slug}"), ID: m.ID, Slug: m.Slug, Name: m.Name, Plan: m.Plan, Role: m.Role, Roles: m.Roles,
		TTL: time.Duration(m.TTL), Timeout: time.Duration(m.Timeout),
	}, nil
}

// Title names it for a person.
func (m *MembersAsk) Title() string { return "members ask " + syntax.ShownURL(m.URL) }

// Look asks for an organization that is not there, without a credential.
func (m *MembersAsk) Look(ctx context.Context) doctor.Diagnosis {
	name := m.Title()
	a, err := m.ask()
	if err != nil {
		return doctor.Wrong("%s: %v", name, err).Mend("correct it where it says")
	}
	name = "members ask " + identity.WithoutQuery(a.URL)
	if err := a.Probe(ctx); err != nil {
		return doctor.Wrong("%s: %v", name, err).Mend("until it answers as it should, no member gets in: correct the URL")
	}
	return doctor.Fine("%s answers, and turns away whoever shows no credential", name)
}

// ServeHTTP answers; nothing behind it is asked.
func (v *Viewer) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	made, err := v.made()
	if err != nil {
		return caddyhttp.Error(http.StatusServiceUnavailable, fmt.Errorf("opening the audit log for its readers: %w", err))
	}
	made.ServeHTTP(w, r)
	return nil
}

// made is the viewer, which lives as long as this configuration.
func (v *Viewer) made() (*viewer.Viewer, error) {
	v.open.mu.Lock()
	defer v.open.mu.Unlock()
	if v.open.made != nil {
		return v.open.made, nil
	}
	if v.open.gone {
		return nil, errReplaced
	}
	key, err := v.of.CursorKey()
	if err != nil {
		return nil, err
	}
	of := v.of.Retention()
	v.open.made, err = viewer.New(viewer.Options{
		Open: v.openLog, Gate: v.gate, Store: of.Stores.Readable().Name, Readable: of.Readable, Record: v.of.Record, Key: key, Logger: v.log,
		MaxRange: time.Duration(v.MaxRange), Timeout: time.Duration(v.Timeout), MaxExports: v.MaxExports,
		UpgradeURL: v.UpgradeURL, SignInURL: v.SignInURL, Observe: observeReader, Exported: observeExport,
	})
	return v.open.made, err
}

func (v *Viewer) openLog(ctx context.Context) (viewer.Log, error) {
	r, err := v.of.Retention().Stores.OpenReader(ctx)
	if err != nil {
		return nil, err
	}
	b, ok := r.(interface {
		forwarder.Browser
		Close() error
	})
	if !ok {
		return nil, fmt.Errorf("reading store %s: it can be exported by the commands and not be browsed: put sqlite or postgres first", v.of.Retention().Stores.Readable().Name)
	}
	return b, nil
}

// slugsStay is what the configuration says, or else whether every site's platform is one
// whose slugs do.
func (v *Viewer) slugsStay() bool {
	if v.SlugsStay != nil {
		return *v.SlugsStay
	}
	return v.of.SlugsStay()
}

// Interface guards
var (
	_ caddyhttp.MiddlewareHandler = (*Viewer)(nil)
	_ caddy.Provisioner           = (*Viewer)(nil)
	_ caddy.CleanerUpper          = (*Viewer)(nil)
)
