package commands

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/syntax"
	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
)

// httpServer is what the doctor looks at of a server of the adapted configuration.
type httpServer struct {
	name    string
	Listen  []string        `json:"listen"`
	Routes  json.RawMessage `json:"routes"`
	Named   json.RawMessage `json:"named_routes"`
	TLS     []any           `json:"tls_connection_policies"`
	Trusted *struct {
		Source string   `json:"source"`
		Ranges []string `json:"ranges"`
	} `json:"trusted_proxies"`
	Strict int `json:"trusted_proxies_strict"`

	handlers map[string]bool
}

// servers are those of the configuration, by name.
func (d *examination) servers() (list []*httpServer) {
	var c struct {
		Apps struct {
			HTTP struct {
				Servers map[string]*httpServer `json:"servers"`
			} `json:"http"`
		} `json:"apps"`
	}
	_ = json.Unmarshal(d.config, &c) // it was provisioned
	for _, name := range slices.Sorted(maps.Keys(c.Apps.HTTP.Servers)) {
		s := c.Apps.HTTP.Servers[name]
		if s == nil {
			continue
		}
		s.name, s.handlers = name, map[string]bool{}
		s.find(s.Routes, 0)
		s.find(s.Named, 0)
		list = append(list, s)
	}
	return list
}

// find notes the names of all handlers, however others nest them.
func (s *httpServer) find(raw json.RawMessage, depth int) {
	if depth > deepest {
		return
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil {
		for _, one := range list {
			s.find(one, depth+1)
		}
		return
	}
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(raw, &fields) // of what is no object there are none
	var name string
	if json.Unmarshal(fields["handler"], &name) == nil && name != "" {
		s.handlers[name] = true
	}
	for _, one := range fields {
		s.find(one, depth+1)
	}
}

func (s *httpServer) where() string {
	return "server " + s.name + " (" + strings.Join(s.Listen, ", ") + ")"
}

// reach is who can reach an address that something listens on.
type reach int

const (
	reachMachine reach = iota // this machine alone
	reachPrivate              // a private network
	reachAnybody              // whoever has a route
)

// reachOf is the widest of a listener's addresses.
func reachOf(listen string) reach {
	at, err := caddy.ParseNetworkAddress(listen)
	switch {
	case err != nil:
		return reachAnybody
	case at.IsUnixNetwork(), syntax.IsLoopback(at.Host):
		return reachMachine
	}
	ip, err := netip.ParseAddr(at.Host)
	if err == nil && isPrivate(ip) {
		return reachPrivate
	}
	return reachAnybody
}

// isPrivate reports whether an address is of a network that the internet does not route.
func isPrivate(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || carrierNetwork.Contains(ip)
}

var carrierNetwork = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598, which clouds use too

func (s *httpServer) reach() reach {
	widest := reachMachine
	for _, l := range s.Listen {
		widest = max(widest, reachOf(l))
	}
	return widest
}

// isTLS reports whether the server answers by TLS alone, as far as it can be seen before it
// starts.
func (s *httpServer) isTLS() bool {
	return len(s.TLS) > 0 || !slices.ContainsFunc(s.Listen, func(l string) bool { return !strings.HasSuffix(l, ":443") })
}

// checkListeners looks at who can reach what is not for everybody.
func checkListeners(_ context.Context, d *examination) []doctor.Diagnosis {
	if d.app == nil {
		return unread()
	}
	list := []doctor.Diagnosis{d.adminFinding()}
	for _, s := range d.servers() {
		if s.handlers["metrics"] {
			list = append(list, metricsFinding(s))
		}
		if s.handlers["audit_log_viewer"] {
			list = append(list, viewerFinding(s))
		}
	}
	return list
}

func (d *examination) adminFinding() doctor.Diagnosis {
	const cure = "put it on a unix socket, as in: admin unix//run/caddy/admin.sock|0600"
	var c struct {
		Admin caddy.AdminConfig `json:"admin"`
	}
	_ = json.Unmarshal(d.config, &c) // it was provisioned
	if c.Admin.Disabled {
		return doctor.Warning("there is no admin endpoint: no command can ask the running server").Mend(cure)
	}
	address := cmp.Or(c.Admin.Listen, caddy.DefaultAdminListen)
	parsed, err := parseEndpoint(address)
	switch {
	case err != nil:
		return doctor.NotKnown("the admin endpoint %s: %v", address, err).Mend(cure)
	case parsed.IsUnixNetwork():
		return doctor.Fine("the admin endpoint is a unix socket")
	case syntax.IsLoopback(parsed.Host):
		return doctor.Warning("the admin endpoint is at %s: every user and container of this machine's network can read every entry, and change the configuration", address).Mend(cure)
	}
	return doctor.Wrong("the admin endpoint is at %s: whoever reaches it can read every entry, and change the configuration", address).Mend(cure)
}

func metricsFinding(s *httpServer) doctor.Diagnosis {
	if s.reach() == reachAnybody {
		return doctor.Warning("%s serves metrics to whoever reaches it", s.where()).
			Mend("bind it to an address that only your monitoring reaches, or keep others away by a firewall or network policy")
	}
	return doctor.Fine("%s serves metrics to no more than a private network", s.where())
}

func viewerFinding(s *httpServer) doctor.Diagnosis {
	if s.reach() != reachMachine && !s.isTLS() {
		return doctor.Warning("%s serves audit logs over http: visitors' credentials and entries can be read on the way", s.where()).
			Mend("serve it by https, or bind it to 127.0.0.1 behind what does; within a machine's or pod's own network this is fine")
	}
	return doctor.Fine("%s serves audit logs by https, or on this machine alone", s.where())
}

const (
	// fewCalls are too few to say where calls come from, and mostly a share that is no chance.
	fewCalls = 10
	mostly   = 0.9
)

// checkProxies looks at whose address the entries have.
func checkProxies(_ context.Context, d *examination) []doctor.Diagnosis {
	if d.app == nil {
		return unread()
	}
	peers := peersOf(d.newest)
	var list []doctor.Diagnosis
	for _, s := range d.servers() {
		if s.handlers["audit_log"] {
			list = append(list, proxiesFinding(s, peers))
		}
	}
	return list
}

// peers are where the newest calls came from.
type peers struct {
	calls, forwarded, private int
	example                   string // of a private peer
}

func peersOf(newest []liveEntry) (p peers) {
	for _, e := range newest {
		if e.IsEvent() || e.Actor.PeerIP == "" {
			continue
		}
		p.calls++
		if e.Actor.IPSource == audit.IPForwarded {
			p.forwarded++
			continue
		}
		if ip, err := netip.ParseAddr(e.Actor.PeerIP); err == nil && isPrivate(ip) {
			p.private++
			p.example = e.Actor.PeerIP
		}
	}
	return p
}

func proxiesFinding(s *httpServer, p peers) doctor.Diagnosis {
	const cure = "name your load balancers, as in: trusted_proxies static 10.0.0.0/8, and trusted_proxies_strict"
	trusts := s.Trusted != nil && (s.Trusted.Source != "static" || len(s.Trusted.Ranges) > 0)
	if trusts {
		for _, r := range s.Trusted.Ranges {
			if prefix, err := netip.ParsePrefix(r); err == nil && prefix.Bits() == 0 {
				return doctor.Wrong("%s trusts %s: whoever calls can have any address in the entries", s.where(), r).Mend(cure)
			}
		}
		if s.Strict == 0 {
			return doctor.Warning("%s trusts proxies without trusted_proxies_strict: a client can choose its address, if a proxy adds to X-Forwarded-For what it got", s.where()).
				Mend("add trusted_proxies_strict")
		}
	}
	behind := p.calls >= fewCalls && float64(p.private) >= mostly*float64(p.calls)
	switch {
	case behind && trusts:
		return doctor.Warning("%s trusts proxies, and the newest %d calls have private peers such as %s for their clients", s.where(), p.calls, p.example).
			Mend("name the proxies that calls really come from, and have them send X-Forwarded-For")
	case behind:
		return doctor.Warning("%s trusts no proxy, and the newest %d calls come from private peers such as %s: if that is a load balancer, no entry has the client's address", s.where(), p.calls, p.example).Mend(cure)
	case trusts:
		return doctor.Fine("%s trusts proxies, and reads X-Forwarded-For from its end", s.where())
	case p.calls >= fewCalls:
		return doctor.Fine("%s trusts no proxy, and calls come from public addresses", s.where())
	}
	return doctor.NotKnown("%s trusts no proxy; whether one stands before it cannot be seen from so few calls", s.where()).Mend("if one does: %s", cure)
}

// hostPort is where a URL leads, with the port that its scheme has by itself.
func hostPort(host, port, scheme string) (address string, ok bool) {
	usual := map[string]string{
		"http": "80", "https": "443", "nats": "4222", "tls": "6514", "tcp": "601", "syslog": "514",
	}
	if port == "" {
		port = usual[scheme]
	}
	return net.JoinHostPort(host, port), host != "" && port != ""
}
