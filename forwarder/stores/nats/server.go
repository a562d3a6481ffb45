package natsstore

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/placeholder"
)

// defaultPort is that of a server whose URL has none.
const defaultPort = "4222"

// server is a URL in its parts.
type server struct {
	tls bool
	// host is a host and a port.
	host string
	// user and password are placeholders, or empty.
	user, password string
}

// parseServer takes a URL apart. Parsing it as it is would fail for the braces, and its
// errors would show what stands in it.
func parseServer(s string) (server, error) {
	scheme, rest, _ := strings.Cut(s, "://")
	scheme = strings.ToLower(scheme)
	if scheme != "nats" && scheme != "tls" || rest == "" {
		return server{}, errors.New("the URL of a server does not begin with nats:// or tls://: write its scheme and host out; in a Caddyfile {$NAME} can stand for them")
	}
	to := server{tls: scheme == "tls"}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		to.user, to.password = cutUser(rest[:i])
		rest = rest[i+1:]
		if !placeholder.Is(to.user) || to.password != "" && !placeholder.Is(to.password) {
			return server{}, errors.New("the URL has a user or a password written out: give each by a placeholder, as in nats://{env.AUDIT_USER}:{env.AUDIT_PASSWORD}@nats-1.example.com")
		}
	}
	rest = strings.TrimSuffix(rest, "/")
	u, err := url.Parse("nats://" + rest)
	if err != nil || u.Hostname() == "" || u.Host != rest || strings.ContainsAny(rest, "{}%, ") {
		return server{}, errors.New("the host of a server's URL cannot be read: write it out, as in nats://nats-1.example.com:4222")
	}
	port := u.Port()
	if port == "" {
		port = defaultPort
	}
	to.host = net.JoinHostPort(strings.ToLower(u.Hostname()), port)
	return to, nil
}

// cutUser cuts at the colon that stands in no placeholder.
func cutUser(s string) (user, password string) {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '{':
			depth++
		case '}':
			depth--
		case ':':
			if depth == 0 {
				return s[:i], s[i+1:]
			}
		}
	}
	return s, ""
}

// loopback reports whether the host is this one.
func (s server) loopback() bool {
	name, _, err := net.SplitHostPort(s.host)
	ip := net.ParseIP(name)
	return err == nil && (name == "localhost" || ip != nil && ip.IsLoopback())
}

// url is what is connected to.
func (s server) url() string {
	if s.tls {
		return fmt.Sprintf("tls://%s", s.host)
	}
	return fmt.Sprintf("nats://%s", s.host)
}
