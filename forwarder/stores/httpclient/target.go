package httpclient

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// inBraces is a placeholder, which a credential comes from. All else in braces is text.
var inBraces = regexp.MustCompile(`\{(?:env\.[A-Za-z_][A-Za-z0-9_]*|file\.[^{}]+)\}`)

// HasPlaceholder reports whether there is a placeholder in a text.
func HasPlaceholder(s string) bool { return inBraces.MatchString(s) }

// IsPlaceholder reports whether a text is one, with nothing beside it.
func IsPlaceholder(s string) bool { return inBraces.FindString(s) == s && s != "" }

// checkPlaceholders refuses what was meant as one and would be sent as it is.
func checkPlaceholders(s string) error {
	rest := inBraces.ReplaceAllString(s, "")
	for _, meant := range []string{"{env.", "{file.", "{http.", "{system.", "{time.", "{vars.", "{$"} {
		if strings.Contains(rest, meant) {
			return fmt.Errorf("%s…} is not a placeholder that is replaced here: use {env.NAME} or {file.PATH}", meant)
		}
	}
	return nil
}

// expand replaces each placeholder by what resolve says, escaped.
func expand(s string, resolve func(string) (string, error), escape func(string) string) (string, error) {
	var first error
	out := inBraces.ReplaceAllStringFunc(s, func(p string) string {
		value, err := resolve(p)
		if err != nil && first == nil {
			first = err
		}
		return escape(value)
	})
	if first != nil {
		return "", first
	}
	return out, nil
}

// verbatim is the escape of what needs none.
func verbatim(s string) string { return s }

// Target is a URL in its parts, with placeholders where they were written.
type Target struct {
	scheme string
	// host has no port if that is the scheme's own.
	host string
	// user and password are empty or hold a placeholder.
	user, password string
	hasPassword    bool
	path, query    string
}

// parseTarget takes the URL of a receiver apart.
func parseTarget(s string) (Target, error) { return parseURL(s, "https", "http") }

// parseURL takes a URL apart. Parsing it as it is would fail for the braces, and its
// errors would show what stands in it.
func parseURL(s string, schemes ...string) (Target, error) {
	if s == "" {
		return Target{}, errors.New("the URL is empty: name one, as in https://siem.example.com/ingest")
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || !slices.Contains(schemes, strings.ToLower(scheme)) {
		return Target{}, fmt.Errorf("the URL does not begin with %s://: write its scheme and host out; in a Caddyfile {$NAME} can stand for them",
			strings.Join(schemes, ":// or "))
	}
	t := Target{scheme: strings.ToLower(scheme)}
	authority, rest := cutOutside(rest, "/?#")
	t.path = "/"
	if strings.HasPrefix(rest, "/") {
		t.path, rest = cutOutside(rest, "?#")
	}
	if strings.HasPrefix(rest, "?") {
		t.query, rest = cutOutside(rest[1:], "#")
	}
	if rest != "" {
		return Target{}, errors.New("the URL has a fragment, which is never sent: take out what begins with #")
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		if err := t.parseUser(authority[:i]); err != nil {
			return Target{}, err
		}
		authority = authority[i+1:]
	}
	if err := t.parseHost(authority); err != nil {
		return Target{}, err
	}
	return t, t.check()
}

// cutOutside cuts a string before the first of some bytes that is in no placeholder.
func cutOutside(s, any string) (before, rest string) {
	inside := inBraces.FindAllStringIndex(s, -1)
	for i := range len(s) {
		if strings.IndexByte(any, s[i]) >= 0 &&
			!slices.ContainsFunc(inside, func(p []int) bool { return p[0] <= i && i < p[1] }) {
			return s[:i], s[i:]
		}
	}
	return s, ""
}

func (t *Target) parseUser(s string) error {
	user, password := cutOutside(s, ":")
	t.user, t.hasPassword = user, password != ""
	t.password = strings.TrimPrefix(password, ":")
	for _, part := range []string{t.user, t.password} {
		if part != "" && !IsPlaceholder(part) {
			return errors.New("the URL has a user or a password written out: give each by a placeholder, as in https://{env.AUDIT_USER}:{env.AUDIT_PASSWORD}@siem.example.com")
		}
	}
	return nil
}

func (t *Target) parseHost(s string) error {
	u, err := url.Parse(t.scheme + "://" + s)
	if err != nil || u.Hostname() == "" || u.Host != s || strings.ContainsAny(s, "{}") {
		return errors.New("the URL's host cannot be read: write it out, as in https://siem.example.com:8443/ingest; in a Caddyfile {$NAME} can stand for it")
	}
	t.host = strings.ToLower(s)
	if u.Port() == map[string]string{"https": "443", "http": "80", "socks5": "1080"}[t.scheme] {
		t.host = strings.TrimSuffix(t.host, ":"+u.Port())
	}
	t.host = strings.TrimSuffix(t.host, ":")
	return nil
}

// check looks at path and query, with something harmless for each placeholder.
func (t *Target) check() error {
	for _, part := range []string{t.path, t.query} {
		if err := checkPlaceholders(part); err != nil {
			return fmt.Errorf("the URL: %w", err)
		}
	}
	_, err := url.Parse(t.scheme + "://" + t.host + inBraces.ReplaceAllString(t.path, "x") + "?" + inBraces.ReplaceAllString(t.query, "x"))
	if err != nil {
		return errors.New("the URL's path or query cannot be read: escape what is not a letter or a digit by %")
	}
	for pair := range strings.SplitSeq(t.query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if value != "" && !HasPlaceholder(value) && suggestsCredential(name) {
			return fmt.Errorf("the URL's parameter %q is written out and may be a credential: give its value by a placeholder, as in {env.AUDIT_KEY}", name)
		}
	}
	return nil
}

func (t *Target) encrypted() bool { return t.scheme == "https" }

// loopback reports whether the host is this one.
func (t *Target) loopback() bool {
	name := t.host
	if h, _, err := net.SplitHostPort(t.host); err == nil {
		name = h
	}
	ip := net.ParseIP(strings.Trim(name, "[]"))
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

// Location is the URL without user, password and query. A placeholder in the path
// stays one.
func (t *Target) Location() string { return t.scheme + "://" + t.host + t.path }

// resolve returns the URL with its placeholders replaced.
func (t *Target) resolve(resolve func(string) (string, error)) (*url.URL, error) {
	path, err := expand(t.path, resolve, escapePath)
	if err != nil {
		return nil, err
	}
	query, err := expand(t.query, resolve, url.QueryEscape)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(t.scheme + "://" + t.host + path)
	if err != nil {
		return nil, errors.New("the URL cannot be read once its placeholders are replaced") // what it says would show them
	}
	u.RawQuery = query
	if t.user == "" && !t.hasPassword {
		return u, nil
	}
	user, err := expand(t.user, resolve, verbatim)
	if err != nil {
		return nil, err
	}
	password, err := expand(t.password, resolve, verbatim)
	if err != nil {
		return nil, err
	}
	u.User = url.UserPassword(user, password)
	return u, nil
}

// escapePath escapes what would end a path, and leaves its slashes.
func escapePath(s string) string {
	parts := strings.Split(s, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}
