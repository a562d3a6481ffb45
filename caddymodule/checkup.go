package caddymodule

import (
	"context"
	"fmt"

	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/syntax"
	"github.com/caddy-audit-log/caddy-audit-log/identity"
	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
)

// Services implements the commands' Examined: what is asked once of each service that the
// configuration names: where keys are, who somebody is, whose a call is, and who is a member.
func (a *App) Services() (questions []doctor.Question, anonymous bool) {
	seen := map[string]bool{} // sites share what they ask
	ask := func(key, whom string, look func(context.Context) doctor.Diagnosis) {
		if !seen[key] {
			seen[key] = true
			questions = append(questions, doctor.Question{Whom: whom, Look: look})
		}
	}
	named := false
	for _, h := range a.handlers {
		named = named || len(h.Issuers)+len(h.Lookups)+len(h.AnswerHeaders) > 0
		for _, i := range h.Issuers {
			ask(i.String(), i.title(), i.look)
		}
		for _, l := range h.Lookups {
			ask(l.String(), l.Kind+" "+syntax.ShownURL(l.URL), func(ctx context.Context) doctor.Diagnosis { return l.look(ctx, h) })
		}
	}
	for _, v := range a.viewers {
		if v.Ask != nil {
			ask("members "+v.Ask.URL, v.Ask.Title(), v.Ask.Look)
		}
	}
	return append(questions, a.Organizations.Questions()...), !named && len(a.handlers) > 0
}

// KeyFiles implements the commands' Examined.
func (a *App) KeyFiles() (names []string) {
	for _, h := range a.handlers {
		for _, i := range h.Issuers {
			names = append(names, i.JWKSFile)
		}
	}
	return names
}

func (i *Issuer) title() string { return "issuer " + identity.WithoutQuery(i.URL) }

// look reads the issuer's keys, if they are somewhere else.
func (i *Issuer) look(ctx context.Context) doctor.Diagnosis {
	name := i.title()
	address := i.keysURL()
	if address == "" {
		return doctor.Fine("%s: %d key(s) in a file or a secret of this machine", name, len(i.identity.Fixed))
	}
	keys, leftOut, err := identity.CountKeys(ctx, address)
	at := identity.WithoutQuery(address)
	switch {
	case err != nil:
		return doctor.Wrong("%s: its keys at %s cannot be read: %v", name, at, err).
			Mend("until they can, its tokens are not verified: correct jwks, or see what is between here and there")
	case keys == 0:
		return doctor.Wrong("%s: none of its %d keys at %s can verify a signature", name, leftOut, at).Mend("have it publish public RSA (2048 bits or more), EC or Ed25519 keys")
	case leftOut > 0:
		return doctor.Warning("%s: %d key(s), and %d that cannot verify a signature", name, keys, leftOut).Mend("see which those are; a token that is signed with one is not verified")
	}
	return doctor.Fine("%s: %d key(s)", name, keys)
}

// look asks about a credential that nobody has.
func (l *Lookup) look(ctx context.Context, h *Handler) doctor.Diagnosis {
	s, err := l.service(h.platform)
	if err != nil {
		return doctor.Wrong("%s %s: %v", l.Kind, syntax.ShownURL(l.URL), err).Mend("correct it where it says")
	}
	name := fmt.Sprintf("%s %s", l.Kind, identity.WithoutQuery(s.URL))
	if err := s.Probe(ctx); err != nil {
		return doctor.Wrong("%s: %v", name, err).Mend("until it answers, entries have the credential's hash and nobody's name: correct the URL and its client")
	}
	return doctor.Fine("%s answers, and knows nobody by a credential that nobody has", name)
}
