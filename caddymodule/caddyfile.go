package caddymodule

import (
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/catalogs"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stamps"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stores"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/syntax"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("audit_log", parseGlobal)
	httpcaddyfile.RegisterHandlerDirective("audit_log", parseDirective)
	// Before everything that may answer, and outside encode: the bytes that an
	// entry counts are those that were sent.
	httpcaddyfile.RegisterDirectiveOrder("audit_log", httpcaddyfile.After, "tracing")
}

// parseGlobal reads the global option. Syntax:
//
//	audit_log {
//		buffer <directory> {
//			max_size     <size>
//			segment_size <size>
//			max_wait     <duration>
//			min_free     <size>
//			on_fault     reject|pass
//			forget_after <duration>
//		}
//		store <kind> <args...> {
//			name       <name>
//			detachable <percentage>
//			from       oldest|now
//			only       organization|action|level|outcome <value...>
//			except     organization|action|level|outcome <value...>
//			format     native|ocsf
//			batch      <entries> [<duration>]
//			...
//		}
//		keep {
//			default      <term>
//			unattributed <term>
//			sidecar      <term>
//			minimum      <term>
//			maximum      <term>
//			class <name> <term> [plan|action|target|organization <value...>] {
//				plan         <plan...>
//				action       <pattern...>
//				target       <type...>
//				organization <id or slug...>
//			}
//		}
//		readable {
//			<plan...> <term>|none
//			default   <term>|none
//		}
//		organizations {
//			lookup       supabase <url>
//			project      <url> {
//				id   <path>
//				slug <path>
//				plan <path>
//			}
//			organization <url> {
//				id   <path>
//				slug <path>
//				plan <path>
//			}
//			token        <placeholder>
//			plan         <plan> <organization...>
//			ttl          <duration>
//			negative_ttl <duration>
//			rate         <number>
//		}
//	}
//
// A term is days, months or years of the calendar, as in 400d, 13mo and 7y, or forever.
// Without keep, nothing is ever deleted; without readable, every plan may read all.
//
// Without a store, entries go to the SQLite file "audit.db" beside the
// buffer's directory.
func parseGlobal(d *caddyfile.Dispenser, _ any) (any, error) {
	app := new(App)
	d.Next() // consume option name
	if d.NextArg() {
		return nil, d.Errf("audit_log takes no argument here: put its options into a block")
	}
	for d.NextBlock(0) {
		switch d.Val() {
		case "buffer":
			if err := app.Buffer.unmarshal(d); err != nil {
				return nil, err
			}
		case "store":
			store, err := stores.Parse(d)
			if err != nil {
				return nil, err
			}
			app.Stores = append(app.Stores, store)
		case "keep":
			if app.Keep != nil {
				return nil, d.Errf("there is a keep already, at %s: remove one", app.Keep.DefinedAt)
			}
			keep, err := stamps.ParseKeep(d)
			if err != nil {
				return nil, err
			}
			app.Keep = keep
		case "readable":
			if app.Readable != nil {
				return nil, d.Errf("there is a readable already: remove one")
			}
			readable, err := stamps.ParseReadable(d)
			if err != nil {
				return nil, err
			}
			app.Readable = readable
		case "organizations":
			if app.Organizations != nil {
				return nil, d.Errf("there are organizations already, at %s: remove one block", app.Organizations.DefinedAt)
			}
			organizations, err := stamps.ParseOrganizations(d)
			if err != nil {
				return nil, err
			}
			app.Organizations = organizations
		default:
			return nil, syntax.Unrecognized(d, "audit_log", "buffer, store, keep, readable, organizations")
		}
	}
	return httpcaddyfile.App{Name: "audit_log", Value: caddyconfig.JSON(app, nil)}, nil
}

func (c *BufferConfig) unmarshal(d *caddyfile.Dispenser) error {
	if c.DefinedAt != "" {
		return d.Errf("there is a buffer already, at %s: remove one", c.DefinedAt)
	}
	c.DefinedAt = syntax.At(d)
	if d.NextArg() {
		c.Directory = d.Val()
	}
	if d.NextArg() {
		return d.Errf("buffer takes one argument, its directory, and no %q", d.Val())
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		var value string
		if !d.AllArgs(&value) {
			return d.Errf("%s takes one argument", option)
		}
		var err error
		switch option {
		case "max_size":
			c.MaxSize, err = syntax.Size(value)
		case "segment_size":
			c.SegmentSize, err = syntax.Size(value)
		case "max_wait":
			c.MaxWait, err = syntax.Duration(value)
		case "on_fault":
			if c.OnFault = value; value != onFaultReject && value != onFaultPass {
				err = fmt.Errorf("%q: it is reject or pass", value)
			}
		case "min_free":
			c.MinFree, err = syntax.Size(value)
		case "forget_after":
			c.ForgetAfter, err = syntax.Duration(value)
		default:
			return d.Errf("%q is not an option of buffer: this version knows max_size, segment_size, max_wait, min_free, on_fault, forget_after", option)
		}
		if err != nil {
			return d.Errf("%s %w", option, err)
		}
	}
	return nil
}

// parseDirective reads the directive. Syntax:
//
//	audit_log [<matcher>] {
//		platform <name>
//		catalog  openapi <file>|<url>
//		catalog  file <file>
//		issuer   <url> {
//			audience <name...>
//			jwks     <url>
//			jwks     file <path>
//			secret   <placeholder>
//			claim    <field> <path>
//		}
//		token    <type> prefix <prefix...>
//		token    <type> regexp <pattern>
//		token    <type> basic
//		credential header|cookie|query <name> [<type>]
//		introspect <url> {
//			types   <type...>
//			client  <id> <placeholder>
//			bearer  <placeholder>
//			claim   <field> <path>
//			wait    <duration>
//			timeout <duration>
//			max_age <duration>
//		}
//		profile <url> {
//			types   <type...>
//			claim   <field> <path>
//			wait    <duration>
//			timeout <duration>
//			max_age <duration>
//		}
//		answer_header <field> <name>
//		capture  body <path...>
//		capture  query <name...>
//		capture  header <name...>
//		capture  response <path...>
//		capture  limit <size>
//		fold     <calls> [<duration>]
//		fold     off
//		@<name>  <matcher> <args...>
//		rule     <matcher> <level> [<durability>]
//	}
//
// A rule's matcher is a named one of this block or of the site, a path, or *.
func parseDirective(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h, d := new(Handler), helper.Dispenser
	rules := ruleParser{Helper: helper, matchers: map[string]caddy.ModuleMap{}}
	d.Next() // consume directive name
	h.DefinedAt = syntax.At(d)
	if d.NextArg() {
		return nil, d.Errf("audit_log takes no argument %q: put its options into a block", d.Val())
	}
	for d.NextBlock(0) {
		switch option := d.Val(); {
		case strings.HasPrefix(option, "@"):
			if err := rules.define(d); err != nil {
				return nil, err
			}
		case option == "platform":
			if !d.AllArgs(&h.Platform) {
				return nil, d.Errf("platform takes one argument, as in: platform supabase")
			}
		case option == "catalog":
			catalog, err := catalogs.Parse(d)
			if err != nil {
				return nil, err
			}
			h.Catalogs = append(h.Catalogs, catalog)
		case option == "issuer":
			issuer, err := parseIssuer(d)
			if err != nil {
				return nil, err
			}
			h.Issuers = append(h.Issuers, issuer)
		case option == "introspect", option == "profile":
			kind := map[string]string{"introspect": lookupIntrospection, "profile": lookupProfile}[option]
			lookup, err := parseLookup(d, kind)
			if err != nil {
				return nil, err
			}
			h.Lookups = append(h.Lookups, lookup)
		case option == "token", option == "credential", option == "answer_header":
			if err := h.credentialOption(d); err != nil {
				return nil, err
			}
		case option == "capture":
			if err := h.parseCapture(d); err != nil {
				return nil, err
			}
		case option == "fold":
			fold, err := parseFold(d.RemainingArgs())
			if err != nil {
				return nil, d.Errf("%w", err)
			}
			h.Fold = fold
		case option == "rule":
			rule, err := rules.rule(d)
			if err != nil {
				return nil, err
			}
			h.Rules = append(h.Rules, rule)
		default:
			return nil, syntax.Unrecognized(d, "the directive audit_log", "platform, catalog, issuer, token, credential, introspect, profile, answer_header, capture, fold, rule and @matchers")
		}
	}
	return h, nil
}
