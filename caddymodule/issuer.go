package caddymodule

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/syntax"
	"github.com/caddy-audit-log/caddy-audit-log/identity"
)

// Issuer makes JWTs that are believed once their signature is checked: then the
// entry's verification is "signature", and their claims fill the actor's fields.
// A call is never refused for its token, since the API is the judge of it.
//
// Without jwks_url, jwks_file and secret, its keys are read from
// <url>/.well-known/jwks.json. A secret may stand beside a set, as it does while
// an issuer changes from one to the other.
type Issuer struct {
	// URL is the exact iss claim of its tokens. Placeholders are replaced when
	// it is loaded. Required.
	//
	// Caddyfile: issuer <url>
	URL string `json:"url"`

	// Audiences are those that its tokens may be for: their aud claim must name
	// one. Placeholders are replaced when it is loaded. Default: none, and the claim is
	// not looked at.
	Audiences []string `json:"audiences,omitempty"`

	// JWKSURL is where its public keys are, as a JWK set. It is read in the
	// background, when the configuration starts and then as often as its
	// Cache-Control max-age says, between a minute and a day, or each 10
	// minutes. A redirect is not followed, more than 1 MiB not read and 2 s not
	// exceeded. While it is down the last keys stay. A call never waits for it:
	// until it has answered, tokens are not verified. Placeholders are replaced when
	// it is loaded. Default: <url>/.well-known/jwks.json, if there is no jwks_file and
	// no secret.
	//
	// Caddyfile: jwks <url>
	JWKSURL string `json:"jwks_url,omitempty"`

	// JWKSFile is a file with a JWK set, read when the configuration is loaded.
	// Placeholders are replaced then. Default: none.
	//
	// Caddyfile: jwks file <path>
	JWKSFile string `json:"jwks_file,omitempty"`

	// Secret is the key of an issuer that signs by HMAC, as one placeholder,
	// {env.NAME} or {file./path}, so that it stands in no configuration. It must
	// have at least 32 bytes; HS384 takes 48 and HS512 64. One line end after it
	// is ignored in a file. Default: none.
	Secret string `json:"secret,omitempty"`

	// Claims name the claim that fills a field of the actor, over those of the
	// platform: user_id, email, session_id, aal, amr, jwt_role, oauth_app_id,
	// oauth_app_name, token_scope, and anonymous and service, which make the
	// actor of that kind where the claim is true; and organization_id,
	// organization_slug, organization_plan, for calls whose path names neither an
	// organization nor a project. A path joins names by dots, as in app_metadata.uid;
	// \. is a dot in a name. A claim of another type than the field's is not taken.
	// Default: those of the platform.
	Claims map[string]string `json:"claims,omitempty"`

	identity *identity.Issuer
}

// check looks at what can be known without the machine. It never repeats a
// secret.
func (i *Issuer) check() error {
	if i.URL == "" {
		return errors.New("it has no URL: give it the iss of its tokens")
	}
	if i.JWKSURL != "" && i.JWKSFile != "" {
		return errors.New("it has a jwks URL and a jwks file: remove one")
	}
	if i.Secret != "" {
		if err := syntax.CheckSecret(i.Secret); err != nil {
			return err
		}
	}
	if slices.Contains(i.Audiences, "") {
		return errors.New("an audience is empty: remove it")
	}
	for _, field := range slices.Sorted(maps.Keys(i.Claims)) {
		if _, err := audit.CheckClaim(field, i.Claims[field]); err != nil {
			return err
		}
	}
	return checkKeysURL(i.keysURL())
}

// keysURL is where its key set is, or empty if it is not at a URL.
func (i *Issuer) keysURL() string {
	switch {
	case i.JWKSURL != "":
		return i.JWKSURL
	case i.JWKSFile == "" && i.Secret == "":
		return strings.TrimSuffix(i.URL, "/") + "/.well-known/jwks.json"
	}
	return ""
}

// checkKeysURL takes what is still to be replaced as it is.
func checkKeysURL(address string) error {
	if address == "" || strings.Contains(address, "{") {
		return nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("its keys cannot be at %s: write jwks with an https URL or a file, or a secret", syntax.ShownURL(address))
	}
	if u.User != nil {
		return errors.New("its jwks URL holds a user name: keys are public, so remove it")
	}
	return nil
}

// provision reads what is on this machine, and nothing from the network.
func (i *Issuer) provision(p *audit.Platform, log *slog.Logger) error {
	repl := caddy.NewReplacer()
	replaced := *i
	for _, s := range []*string{&replaced.URL, &replaced.JWKSURL, &replaced.JWKSFile} {
		var err error
		if *s, err = repl.ReplaceOrErr(*s, *s != "", true); err != nil {
			return err
		}
	}
	replaced.Audiences = slices.Clone(i.Audiences)
	for n, s := range replaced.Audiences {
		var err error
		if replaced.Audiences[n], err = repl.ReplaceOrErr(s, true, true); err != nil {
			return fmt.Errorf("audience: %w", err)
		}
	}
	if err := replaced.check(); err != nil {
		return err
	}
	made := new(identity.Issuer)
	var err error
	if made.Issuer, err = audit.NewIssuer(replaced.URL, replaced.Audiences, p, i.Claims); err != nil {
		return err
	}
	if i.Secret != "" {
		key, err := secretKey(repl, i.Secret)
		if err != nil {
			return err
		}
		made.Fixed = append(made.Fixed, key)
	}
	if replaced.JWKSFile != "" {
		keys, err := identity.ReadKeysFile(replaced.JWKSFile, log)
		if err != nil {
			return err
		}
		made.Fixed = append(made.Fixed, keys...)
	}
	if address := replaced.keysURL(); address != "" {
		made.Source = identity.NewKeySource(address)
	}
	i.URL, i.Audiences, i.JWKSURL, i.JWKSFile = replaced.URL, replaced.Audiences, replaced.JWKSURL, replaced.JWKSFile
	i.identity = made
	return nil
}

func secretKey(repl *caddy.Replacer, placeholder string) (audit.Key, error) {
	secret, err := repl.ReplaceOrErr(placeholder, true, true)
	if err != nil {
		return audit.Key{}, fmt.Errorf("secret %s has no value: %w", placeholder, err)
	}
	key, err := audit.SecretKey([]byte(secret))
	if err != nil {
		return audit.Key{}, fmt.Errorf("secret %s: %w", placeholder, err)
	}
	return key, nil
}

// String describes the issuer for a reader of audit.config_changed: who adds
// one can be anybody in the log.
func (i *Issuer) String() string {
	words := []string{"issuer", i.URL}
	for _, a := range i.Audiences {
		words = append(words, "audience", a)
	}
	switch address := i.keysURL(); {
	case i.JWKSFile != "":
		words = append(words, "jwks file", i.JWKSFile)
	case address != "":
		words = append(words, "jwks", identity.WithoutQuery(address))
	}
	if syntax.IsPlaceholder(i.Secret) {
		words = append(words, "secret", i.Secret)
	}
	for _, field := range slices.Sorted(maps.Keys(i.Claims)) {
		words = append(words, "claim", field, i.Claims[field])
	}
	return strings.Join(words, " ")
}

// inClear reports whether the keys come over the network in clear, where they
// can be exchanged on the way.
func (i *Issuer) inClear() bool { return syntax.InClear(i.keysURL()) }
