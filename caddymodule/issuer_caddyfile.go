package caddymodule

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/syntax"
)

// parseIssuer reads an issuer; see parseDirective.
func parseIssuer(d *caddyfile.Dispenser) (*Issuer, error) {
	args := d.RemainingArgs()
	if len(args) != 1 {
		return nil, d.Errf("issuer takes one argument, the iss of its tokens, as in: issuer https://auth.example.com")
	}
	i := &Issuer{URL: args[0]}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := i.option(d); err != nil {
			return nil, err
		}
	}
	if err := i.check(); err != nil {
		return nil, d.Errf("issuer %s: %w", i.URL, err)
	}
	return i, nil
}

func (i *Issuer) option(d *caddyfile.Dispenser) error {
	option := d.Val()
	args := d.RemainingArgs()
	var err error
	switch option {
	case "audience":
		if len(args) == 0 {
			return d.Errf("audience takes names, as in: audience authenticated")
		}
		i.Audiences = append(i.Audiences, args...)
	case "jwks":
		switch {
		case i.JWKSURL != "" || i.JWKSFile != "":
			return d.Errf("there is a jwks already: remove one")
		case len(args) == 1 && args[0] != "file":
			i.JWKSURL = args[0]
			err = checkKeysURL(i.JWKSURL)
		case len(args) == 2 && args[0] == "file":
			i.JWKSFile = args[1]
		default:
			return d.Errf("jwks takes a URL or a file, as in: jwks https://auth.example.com/.well-known/jwks.json, or: jwks file ./jwks.json")
		}
	case "secret":
		// What is written here is never repeated: it may be the secret.
		if len(args) != 1 || i.Secret != "" {
			return d.Errf("secret takes one placeholder, once, as in: secret {env.JWT_SECRET}")
		}
		i.Secret = args[0]
		err = syntax.CheckSecret(i.Secret)
	case "claim":
		i.Claims, err = addClaim(i.Claims, args)
	default:
		return d.Errf("%q is not an option of issuer: this version knows audience, jwks, secret, claim", option)
	}
	if err != nil {
		return d.Errf("issuer %s: %w", i.URL, err)
	}
	return nil
}
