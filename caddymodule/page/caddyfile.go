package page

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/syntax"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("audit_log_viewer", parseViewer)
	httpcaddyfile.RegisterDirectiveOrder("audit_log_viewer", httpcaddyfile.Before, "reverse_proxy")
}

// parseViewer reads the directive. Syntax:
//
//	audit_log_viewer [<matcher>] {
//		members ask <url> {
//			id      <path>
//			slug    <path>
//			name    <path>
//			plan    <path>
//			role_at <path>
//			role    <role...>
//			ttl     <duration>
//			timeout <duration>
//		}
//		members claim
//		slugs_stay  true|false
//		operators   user_id|email|role <value...>
//		cookie      <name>
//		max_range   <duration>
//		timeout     <duration>
//		max_exports <number>
//		upgrade_url <url>
//		sign_in_url <url>
//	}
func parseViewer(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	v, d := new(Viewer), helper.Dispenser
	d.Next() // consume directive name
	v.DefinedAt = syntax.At(d)
	if d.NextArg() {
		return nil, d.Errf("audit_log_viewer takes no argument %q: put its options into a block", d.Val())
	}
	for d.NextBlock(0) {
		if err := v.option(d); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// viewerOptions are those that take one argument.
var viewerOptions = []string{"slugs_stay", "cookie", "max_range", "timeout", "max_exports", "upgrade_url", "sign_in_url"}

func (v *Viewer) option(d *caddyfile.Dispenser) (err error) {
	option := d.Val()
	switch option {
	case "members":
		return v.members(d)
	case "operators":
		return v.operators(d)
	}
	var value string
	if !slices.Contains(viewerOptions, option) {
		return syntax.Unrecognized(d, "audit_log_viewer", "members, operators, "+strings.Join(viewerOptions, ", "))
	}
	if !d.AllArgs(&value) {
		return d.Errf("%s takes one argument", option)
	}
	switch option {
	case "slugs_stay":
		stay := value == "true"
		if v.SlugsStay = &stay; !stay && value != "false" {
			err = fmt.Errorf("%q: it is true or false", value)
		}
	case "cookie":
		v.Cookie = value
	case "max_range":
		v.MaxRange, err = syntax.Duration(value)
	case "timeout":
		v.Timeout, err = syntax.Duration(value)
	case "max_exports":
		if v.MaxExports, err = strconv.Atoi(value); err == nil && v.MaxExports < 1 {
			return d.Errf("max_exports %q is not a number above zero", value)
		}
	case "upgrade_url":
		v.UpgradeURL = value
	case "sign_in_url":
		v.SignInURL = value
	}
	if err != nil {
		return d.Errf("%s %w", option, err)
	}
	return nil
}

func (v *Viewer) members(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch {
	case len(args) == 1 && args[0] == "claim":
		v.Claim = true
		return nil
	case len(args) != 2 || args[0] != "ask":
		return d.Errf("members takes claim, or ask and a URL, as in: members ask https://api.example.com/v1/organizations/{slug}")
	case v.Ask != nil:
		return d.Errf("there is a members ask already: remove one")
	}
	m := &MembersAsk{URL: args[1]}
	v.Ask = m
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		args := d.RemainingArgs()
		if option == "role" && len(args) > 0 {
			m.Roles = append(m.Roles, args...)
			continue
		}
		if len(args) != 1 {
			return d.Errf("%s takes one argument", option)
		}
		var err error
		switch value := args[0]; option {
		case "id":
			m.ID = value
		case "slug":
			m.Slug = value
		case "name":
			m.Name = value
		case "plan":
			m.Plan = value
		case "role_at":
			m.Role = value
		case "ttl":
			m.TTL, err = syntax.Duration(value)
		case "timeout":
			m.Timeout, err = syntax.Duration(value)
		default:
			return d.Errf("%q is not an option of members ask: this version knows id, slug, name, plan, role_at, role, ttl, timeout", option)
		}
		if err != nil {
			return d.Errf("%s %w", option, err)
		}
	}
	return nil
}

func (v *Viewer) operators(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 2 {
		return d.Errf("operators takes user_id, email or role and values, as in: operators email ann@example.com")
	}
	if v.Operators == nil {
		v.Operators = new(ViewerOperators)
	}
	switch args[0] {
	case "user_id":
		v.Operators.UserIDs = append(v.Operators.UserIDs, args[1:]...)
	case "email":
		v.Operators.Emails = append(v.Operators.Emails, args[1:]...)
	case "role":
		v.Operators.Roles = append(v.Operators.Roles, args[1:]...)
	default:
		return d.Errf("operators %q: it is user_id, email or role", args[0])
	}
	return nil
}
