package caddymodule

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// credentialOption reads one of the options that say how a credential is found
// and whose it is; see parseDirective.
func (h *Handler) credentialOption(d *caddyfile.Dispenser) error {
	option := d.Val()
	args := d.RemainingArgs()
	switch option {
	case "token":
		t, ok := parseToken(args)
		if !ok {
			return d.Errf("token takes a type and how it looks, as in: token robot prefix rb_, or: token robot regexp rb_[0-9a-f]{40}, or: token person basic")
		}
		if _, err := t.shapes(); err != nil {
			return d.Errf("token %s: %w", t.Type, err)
		}
		h.Tokens = append(h.Tokens, t)
	case "credential":
		if len(args) != 2 && len(args) != 3 {
			return d.Errf("credential takes a place, a name, and at most a type, as in: credential cookie session_id session")
		}
		p := &CredentialPlace{In: audit.PlaceKind(args[0]), Name: args[1]}
		if len(args) == 3 {
			p.Type = audit.TokenType(args[2])
		}
		if err := p.check(); err != nil {
			return d.Errf("credential: %w", err)
		}
		h.Credentials = append(h.Credentials, p)
	case "answer_header":
		if len(args) != 2 {
			return d.Errf("answer_header takes a field and the name of a header, as in: answer_header user_id X-Audit-User-Id")
		}
		if err := checkAnswerHeader(args[0], args[1]); err != nil {
			return d.Errf("answer_header: %w", err)
		}
		if h.AnswerHeaders[args[0]] != "" {
			return d.Errf("there is an answer_header for %s already: remove one", args[0])
		}
		if h.AnswerHeaders == nil {
			h.AnswerHeaders = map[string]string{}
		}
		h.AnswerHeaders[args[0]] = args[1]
	}
	return nil
}

func parseToken(args []string) (t *Token, ok bool) {
	if len(args) < 2 {
		return nil, false
	}
	t = &Token{Type: audit.TokenType(args[0])}
	switch kind, rest := args[1], args[2:]; {
	case kind == "prefix" && len(rest) > 0:
		t.Prefixes = rest
	case kind == "regexp" && len(rest) == 1:
		t.Regexp = rest[0]
	case kind == "basic" && len(rest) == 0:
		t.Basic = true
	default:
		return nil, false
	}
	return t, true
}
