package syntax

import (
	"net/netip"
	"net/url"
	"strings"
)

// ShownURL is a URL as it may stand in an error, although it may be a wrong one:
// without what it may hold of a credential.
func ShownURL(address string) string {
	if strings.HasPrefix(address, "{") {
		return address // a placeholder
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "an address that is no URL"
	}
	return u.Scheme + "://" + u.Host
}

// InClear reports whether what is sent to a URL goes over the network in
// clear.
func InClear(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" {
		return false
	}
	return !IsLoopback(u.Hostname())
}

// IsLoopback reports whether a host is this machine, as far as its name says so.
func IsLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
