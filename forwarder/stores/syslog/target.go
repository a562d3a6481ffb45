package syslogstore

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// The schemes of a receiver's URL.
const (
	schemeTLS  = "tls"
	schemeTCP  = "tcp"
	schemeUnix = "unix"
)

// defaultPort is that of syslog over TLS, RFC 5425.
const defaultPort = "6514"

// target is where the receiver is.
type target struct {
	scheme string
	// host and port are of tls and tcp, path is of unix.
	host, port, path string
}

// parseTarget takes the URL of a receiver apart. No error shows a password that somebody
// may have written into it.
func parseTarget(s string) (target, error) {
	if s == "" {
		return target{}, errors.New("the URL is empty: name the receiver, as in tls://siem.example.com:6514")
	}
	scheme, rest, _ := strings.Cut(s, "://")
	t := target{scheme: strings.ToLower(scheme)}
	switch t.scheme {
	case schemeUnix:
		if !filepath.IsAbs(rest) || strings.ContainsRune(rest, 0) {
			return target{}, errors.New("the URL's path is not absolute: name the socket, as in unix:///run/audit.sock")
		}
		t.path = filepath.Clean(rest)
		return t, nil
	case schemeTLS, schemeTCP:
	case "udp":
		return target{}, errors.New("the URL is one of UDP, by which entries are cut or lost and nobody knows: use tls://")
	default:
		return target{}, errors.New("the URL does not begin with tls://, tcp:// or unix://: write it as in tls://siem.example.com:6514; in a Caddyfile {$NAME} can stand for a part of it")
	}
	u, err := url.Parse(t.scheme + "://" + rest)
	if err != nil || u.Hostname() == "" || strings.ContainsAny(u.Host, "{}") {
		return target{}, errors.New("the URL's host cannot be read: write it out, as in tls://siem.example.com:6514; in a Caddyfile {$NAME} can stand for it")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery || u.Path != "" && u.Path != "/" {
		return target{}, fmt.Errorf("the URL has more than a host and a port, for which syslog has no use: write it as in %s://%s", t.scheme, u.Host)
	}
	t.host, t.port = strings.ToLower(u.Hostname()), u.Port()
	if ip := net.ParseIP(t.host); ip != nil {
		t.host = ip.String()
	}
	if t.port == "" && t.scheme == schemeTLS {
		t.port = defaultPort
	}
	n, err := strconv.ParseUint(t.port, 10, 16)
	if err != nil || n == 0 {
		return target{}, fmt.Errorf("the URL has no port between 1 and 65535: write it as in %s://%s", t.scheme, net.JoinHostPort(t.host, "601"))
	}
	t.port = strconv.FormatUint(n, 10)
	return t, nil
}

func (t target) encrypted() bool { return t.scheme == schemeTLS }

// local reports whether what is written stays on this host.
func (t target) local() bool {
	ip := net.ParseIP(t.host)
	return t.scheme == schemeUnix || t.host == "localhost" || ip != nil && ip.IsLoopback()
}

// dial is what net.Dial takes.
func (t target) dial() (network, address string) {
	if t.scheme == schemeUnix {
		return "unix", t.path
	}
	return "tcp", net.JoinHostPort(t.host, t.port)
}

// location is the URL, written in one way only.
func (t target) location() string {
	if t.scheme == schemeUnix {
		return "unix://" + filepath.ToSlash(t.path)
	}
	return t.scheme + "://" + net.JoinHostPort(t.host, t.port)
}
