package commands_test

import (
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
)

func TestWhoeverCanHaveAnyAddressIsFound(t *testing.T) {
	entries := func(n int, source audit.IPSource, peer string) (list []*audit.Entry) {
		for range n {
			e := &audit.Entry{Actor: audit.Actor{IPSource: source, PeerIP: peer}}
			e.Action.Method = "GET"
			list = append(list, e)
		}
		return list
	}
	const trusted, none = "trusted_proxies static 10.0.0.0/8\n\t\ttrusted_proxies_strict", "trusted_proxies static"
	for name, c := range map[string]struct {
		option  string
		entries []*audit.Entry
		state   doctor.State
		has     string
	}{
		"trusted":                    {trusted, nil, doctor.StateOK, "from its end"},
		"trusted, forwarded":         {trusted, entries(20, audit.IPForwarded, "10.0.0.1"), doctor.StateOK, "from its end"},
		"trusted, not those":         {trusted, entries(20, audit.IPPeer, "172.16.0.1"), doctor.StateWarning, "private peers such as 172.16.0.1"},
		"everybody":                  {"trusted_proxies static 0.0.0.0/0\n\t\ttrusted_proxies_strict", nil, doctor.StateWrong, "can have any address"},
		"everybody by IPv6":          {"trusted_proxies static ::/0\n\t\ttrusted_proxies_strict", nil, doctor.StateWrong, "can have any address"},
		"not strict":                 {"trusted_proxies static 10.0.0.0/8", nil, doctor.StateWarning, "a client can choose its address"},
		"none, behind something":     {none, entries(20, audit.IPPeer, "10.0.0.1"), doctor.StateWarning, "no entry has the client's address"},
		"none, in a cloud's network": {none, entries(20, audit.IPPeer, "100.64.0.1"), doctor.StateWarning, "no entry has the client's address"},
		"none, the internet":         {none, entries(20, audit.IPPeer, "203.0.113.1"), doctor.StateOK, "public addresses"},
		"none, few calls":            {none, entries(9, audit.IPPeer, "10.0.0.1"), doctor.StateNotKnown, "from so few calls"},
	} {
		p := newPatient(t, trusted, c.option)
		r := lookAt(t, p.file, "proxies", c.entries, nil)
		if f := r.one("proxies", c.has); f == nil || f.State != c.state || len(r.Findings) != 1 {
			t.Errorf("%s: %+v", name, r.Findings)
		}
	}
}

func TestWhatIsServedToEverybodyIsFound(t *testing.T) {
	site := func(address, bind, directive string) string {
		return address + " {\n\tbind " + bind + "\n\t" + directive + "\n}\nhttp://:18080"
	}
	const viewer = "audit_log_viewer {\n\t\tmembers claim\n\t}"
	for name, c := range map[string]struct {
		from, to string
		state    doctor.State
		has      string
	}{
		"admin at an address":      {"admin unix/%DIR%/admin.sock|0600", "admin 0.0.0.0:20190", doctor.StateWrong, "whoever reaches it"},
		"admin by TCP":             {"admin unix/%DIR%/admin.sock|0600", "admin 127.0.0.1:20190", doctor.StateWarning, "container of this machine's network"},
		"no admin":                 {"admin unix/%DIR%/admin.sock|0600", "admin off", doctor.StateWarning, "no command can ask"},
		"admin on a socket":        {"", "", doctor.StateOK, "a unix socket"},
		"metrics to everybody":     {"http://:18080", site("http://:9181", "0.0.0.0", "metrics"), doctor.StateWarning, "serves metrics to whoever reaches it"},
		"metrics by IPv6":          {"http://:18080", site("http://:9181", "::", "metrics"), doctor.StateWarning, "serves metrics to whoever reaches it"},
		"metrics to a network":     {"http://:18080", site("http://:9181", "10.0.0.5", "metrics"), doctor.StateOK, "a private network"},
		"metrics to the machine":   {"http://:18080", site("http://:9181", "127.0.0.1", "metrics"), doctor.StateOK, "a private network"},
		"the page over http":       {"http://:18080", site("http://:8081", "0.0.0.0", viewer), doctor.StateWarning, "over http"},
		"the page on the machine":  {"http://:18080", site("http://:8081", "127.0.0.1", viewer), doctor.StateOK, "on this machine alone"},
		"the page by https":        {"http://:18080", site("https://audit.example.com", "0.0.0.0", viewer), doctor.StateOK, "by https"},
		"the page in handle paths": {"http://:18080", site("http://:8081", "0.0.0.0", "handle /audit/* {\n\t\t"+viewer+"\n\t}"), doctor.StateWarning, "over http"},
	} {
		p := newPatient(t)
		if c.from != "" {
			p = newPatient(t, c.from, c.to)
		}
		r := lookAt(t, p.file, "listeners", nil, nil)
		if f := r.one("listeners", c.has); f == nil || f.State != c.state {
			t.Errorf("%s: %+v", name, r.Findings)
		}
	}
}
