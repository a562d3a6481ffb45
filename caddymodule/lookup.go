package caddymodule

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/syntax"
	"github.com/caddy-audit-log/caddy-audit-log/identity"
)

const (
	lookupIntrospection = "introspection"
	lookupProfile       = "profile"

	// maxLookupWait bounds for how long an answer can be held.
	maxLookupWait = time.Second
	// maxLookupTimeout bounds how long a service can keep a question.
	maxLookupTimeout = 30 * time.Second
)

// Lookup is a service that is asked whose a credential is that no signature
// proves; then the entry's verification is "introspection". It is asked once for
// each credential, when the API has answered a call with it, unless that answer
// was 401: what the API refuses is nobody's. What it says is remembered, so that
// it is in the intent of each further call.
//
// A call is never refused for what a service says, and by default none waits for
// it: what comes after the answer becomes a further revision of the entry.
type Lookup struct {
	// Kind is "introspection", which asks by RFC 7662, or "profile", which is
	// asked with the caller's own credential, presented as the caller did. Required.
	//
	// Caddyfile: introspect <url>, or profile <url>
	Kind string `json:"kind"`

	// URL is where it is asked: by POST for an introspection, by GET for a
	// profile. A redirect is not followed, and more than 64 KiB are not read. It
	// must not lead through this site. Placeholders are replaced when it is
	// loaded. Required.
	//
	// Caddyfile: introspect <url>, or profile <url>
	URL string `json:"url"`

	// Types are the token types that it is asked about. An introspection is never
	// asked about user names and passwords. Default: all.
	Types []audit.TokenType `json:"types,omitempty"`

	// ClientID is that of the client that may introspect. Without an id, the secret is
	// sent as a bearer token. Default: none.
	//
	// Caddyfile: client <id> <placeholder>
	ClientID string `json:"client_id,omitempty"`

	// ClientSecret is the client's secret: one placeholder, {env.NAME} or
	// {file./path}, so that it stands in no configuration. Default: none.
	//
	// Caddyfile: client <id> <placeholder>, or bearer <placeholder>
	ClientSecret string `json:"client_secret,omitempty"`

	// Claims name the member of the answer that fills a field of the actor, as
	// those of an issuer do. A whole number counts as its digits. Default: of an
	// introspection sub for user_id, email, sid for session_id, client_id for
	// oauth_app_id, scope for token_scope; of a profile id for user_id, and email.
	Claims map[string]string `json:"claims,omitempty"`

	// Wait is for how long an answer may be held until the service has spoken,
	// at most 1s. Default: not at all.
	Wait caddy.Duration `json:"wait,omitempty"`

	// Timeout bounds one question, to 30s at most. Default: 1s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// MaxAge is how long what it says is remembered, at most; its exp may end it
	// sooner. That a credential is nobody's is remembered for 30s at most, and
	// that there was no answer for 5s. Default: 5m.
	MaxAge caddy.Duration `json:"max_age,omitempty"`
}

// check looks at what can be known without the machine. It never repeats a
// secret.
func (l *Lookup) check() error {
	if l.Kind != lookupIntrospection && l.Kind != lookupProfile {
		return fmt.Errorf("kind %q is not known: choose %s or %s", l.Kind, lookupIntrospection, lookupProfile)
	}
	if !strings.Contains(l.URL, "{") {
		u, err := url.Parse(l.URL)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
			return fmt.Errorf("it cannot be asked at %s: give an https URL without a user name", syntax.ShownURL(l.URL))
		}
	}
	if l.Kind == lookupProfile && (l.ClientID != "" || l.ClientSecret != "") {
		return errors.New("a profile is asked with the caller's own credential: remove client")
	}
	if l.ClientSecret != "" {
		if err := syntax.CheckSecret(l.ClientSecret); err != nil {
			return err
		}
	}
	if l.ClientID != "" && l.ClientSecret == "" {
		return errors.New("client takes an id and the placeholder of its secret, as in: client audit {env.INTROSPECTION_SECRET}")
	}
	if l.Wait < 0 || time.Duration(l.Wait) > maxLookupWait {
		return fmt.Errorf("wait %s: no answer is held for longer than %s", time.Duration(l.Wait), maxLookupWait)
	}
	if l.Timeout < 0 || time.Duration(l.Timeout) > maxLookupTimeout || l.MaxAge < 0 {
		return fmt.Errorf("timeout must be above zero and %s at most, and max_age above zero", maxLookupTimeout)
	}
	for _, field := range slices.Sorted(maps.Keys(l.Claims)) {
		if _, err := audit.CheckClaim(field, l.Claims[field]); err != nil {
			return err
		}
	}
	return nil
}

// service is what is asked, with what only the machine knows.
func (l *Lookup) service(p *audit.Platform) (*identity.Service, error) {
	repl := caddy.NewReplacer()
	replaced := *l
	var err error
	if replaced.URL, err = repl.ReplaceOrErr(l.URL, true, true); err != nil {
		return nil, err
	}
	if err := replaced.check(); err != nil {
		return nil, err
	}
	s := &identity.Service{
		URL: replaced.URL, Introspects: l.Kind == lookupIntrospection, ClientID: l.ClientID, Types: l.Types,
		Wait: time.Duration(l.Wait), Timeout: time.Duration(l.Timeout), MaxAge: time.Duration(l.MaxAge),
	}
	if l.ClientSecret != "" {
		if s.ClientSecret, err = repl.ReplaceOrErr(l.ClientSecret, true, true); err != nil {
			return nil, fmt.Errorf("secret %s has no value: %w", l.ClientSecret, err)
		}
		s.ClientSecret = strings.TrimSuffix(strings.TrimSuffix(s.ClientSecret, "\n"), "\r")
	}
	if s.Introspects {
		s.Account, err = audit.NewIntrospection(p, l.Claims)
	} else {
		s.Account, err = audit.NewProfile(p, l.Claims)
	}
	return s, err
}

func (h *Handler) provisionLookups() error {
	var services []*identity.Service
	for _, l := range h.Lookups {
		s, err := l.service(h.platform)
		if err != nil {
			return h.wrong("%s %s: %w", l.Kind, syntax.ShownURL(l.URL), err)
		}
		services = append(services, s)
		h.lookupsInClear = h.lookupsInClear || syntax.InClear(s.URL)
	}
	if len(services) > 0 {
		h.lookups = identity.New(services, identity.Options{Logger: h.log, Observe: observeLookup})
	}
	return nil
}

// String describes the lookup for a reader of audit.config_changed: it says who
// somebody is.
func (l *Lookup) String() string {
	words := []string{l.Kind, identity.WithoutQuery(l.URL)}
	for _, t := range l.Types {
		words = append(words, "type", string(t))
	}
	if l.ClientID != "" {
		words = append(words, "client", l.ClientID)
	}
	if syntax.IsPlaceholder(l.ClientSecret) {
		words = append(words, "secret", l.ClientSecret)
	}
	for _, field := range slices.Sorted(maps.Keys(l.Claims)) {
		words = append(words, "claim", field, l.Claims[field])
	}
	return strings.Join(words, " ")
}

// parseLookup reads an introspection or a profile; see parseDirective.
func parseLookup(d *caddyfile.Dispenser, kind string) (*Lookup, error) {
	option := d.Val()
	args := d.RemainingArgs()
	if len(args) != 1 {
		return nil, d.Errf("%s takes one argument, the URL to ask, as in: %s https://auth.example.com/%s", option, option, kind)
	}
	l := &Lookup{Kind: kind, URL: args[0]}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := l.option(d); err != nil {
			return nil, err
		}
	}
	if err := l.check(); err != nil {
		return nil, d.Errf("%s %s: %w", option, syntax.ShownURL(l.URL), err)
	}
	return l, nil
}

func (l *Lookup) option(d *caddyfile.Dispenser) error {
	option := d.Val()
	args := d.RemainingArgs()
	var err error
	switch option {
	case "types":
		if len(args) == 0 {
			return d.Errf("types takes token types, as in: types oauth robot")
		}
		for _, t := range args {
			l.Types = append(l.Types, audit.TokenType(t))
		}
	case "client", "bearer":
		// What is written here is never repeated: it may be the secret.
		if l.ClientSecret != "" || len(args) != map[string]int{"client": 2, "bearer": 1}[option] {
			return d.Errf("%s stands once, as in: client audit {env.INTROSPECTION_SECRET}, or: bearer {env.INTROSPECTION_TOKEN}", option)
		}
		if option == "client" {
			l.ClientID = args[0]
		}
		l.ClientSecret = args[len(args)-1]
		err = syntax.CheckSecret(l.ClientSecret)
	case "claim":
		l.Claims, err = addClaim(l.Claims, args)
	case "wait", "timeout", "max_age":
		if len(args) != 1 {
			return d.Errf("%s takes one duration, as in: %s 200ms", option, option)
		}
		at := map[string]*caddy.Duration{"wait": &l.Wait, "timeout": &l.Timeout, "max_age": &l.MaxAge}[option]
		if *at, err = syntax.Duration(args[0]); err != nil {
			err = fmt.Errorf("%s %w", option, err)
		}
	default:
		return d.Errf("%q is not an option here: this version knows types, client, bearer, claim, wait, timeout, max_age", option)
	}
	if err != nil {
		return d.Errf("%s %s: %w", l.Kind, syntax.ShownURL(l.URL), err)
	}
	return nil
}

// addClaim reads: claim <field> <path>.
func addClaim(claims map[string]string, args []string) (map[string]string, error) {
	if len(args) != 2 {
		return nil, errors.New("claim takes a field of the actor and a path, as in: claim user_id app_metadata.uid")
	}
	if _, again := claims[args[0]]; again {
		return nil, fmt.Errorf("there is a claim for %s already: remove one", args[0])
	}
	if claims == nil {
		claims = map[string]string{}
	}
	claims[args[0]] = args[1]
	_, err := audit.CheckClaim(args[0], args[1])
	return claims, err
}
