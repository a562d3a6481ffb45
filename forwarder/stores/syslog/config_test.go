package syslogstore

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func unmarshal(text string) (*Module, error) {
	m := new(Module)
	return m, m.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text))
}

func TestEveryOptionOfTheCaddyfileIsRead(t *testing.T) {
	m, err := unmarshal(`syslog tls://siem.example.com {
		facility    local5
		hostname    gateway-1
		app_name    audit
		enterprise  4711
		timeout     5s
		resend      1m
		max_message 64KiB
		tls {
			ca                 ca.pem
			client_certificate cert.pem key.pem
			server_name        siem.internal
		}
		insecure
	}`)
	if err != nil {
		t.Fatal(err)
	}
	want := &Module{
		URL: "tls://siem.example.com", Facility: "local5", Hostname: "gateway-1", AppName: "audit", Enterprise: "4711",
		Timeout: caddy.Duration(5 * time.Second), Resend: caddy.Duration(time.Minute), MaxMessage: 64 << 10, Insecure: true,
		TLS: TLS{CA: "ca.pem", Certificate: "cert.pem", Key: "key.pem", ServerName: "siem.internal"},
	}
	opt := cmpopts.IgnoreUnexported(Module{})
	if diff := cmp.Diff(want, m, opt); diff != "" {
		t.Errorf("module (-want +got):\n%s", diff)
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	again := new(Module)
	if err := json.Unmarshal(b, again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, again, opt); diff != "" {
		t.Errorf("after JSON (-want +got):\n%s", diff)
	}
	if err := m.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(m.config.TLS.CA) || m.config.Resend != time.Minute || m.config.MaxMessage != 64<<10 {
		t.Errorf("provisioned as %+v", m.config)
	}
	wantDescription := forwarder.Description{Kind: "syslog", Location: "tls://siem.example.com:6514", Delivery: forwarder.DeliveryUnacknowledged}
	if diff := cmp.Diff(wantDescription, m.Describe()); diff != "" {
		t.Errorf("description (-want +got):\n%s", diff)
	}
}

func TestOneLineIsEnough(t *testing.T) {
	m, err := unmarshal("syslog tls://siem.example.com:6514")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	want := Config{
		URL: "tls://siem.example.com:6514", Facility: "audit", AppName: "caddy-audit-log", Enterprise: "32473",
		Timeout: 10 * time.Second, Resend: 30 * time.Second, probation: time.Second,
	}
	if diff := cmp.Diff(want, m.config, cmp.AllowUnexported(Config{})); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if m, err = unmarshal("syslog tls://a {\n resend none\n}"); err != nil || time.Duration(m.Resend) != NoResend {
		t.Errorf("resend none is %v, %v", m.Resend, err)
	}
}

func TestAnOptionOfTheCaddyfileThatCannotBeReadSaysSo(t *testing.T) {
	for text, cure := range map[string]string{
		"syslog":                                                "one argument",
		"syslog tls://a b":                                      "one argument",
		"syslog tls://a {\n lines 3\n}":                         "it knows facility",
		"syslog tls://a {\n timeout\n}":                         "one argument",
		"syslog tls://a {\n timeout 3\n}":                       "as in 10s",
		"syslog tls://a {\n timeout -3s\n}":                     "as in 10s",
		"syslog tls://a {\n resend 0s\n}":                       "or none",
		"syslog tls://a {\n resend x\n}":                        "or none",
		"syslog tls://a {\n max_message 9000\n}":                "unit",
		"syslog tls://a {\n max_message 5GiB\n}":                "64KiB",
		"syslog tls://a {\n insecure yes\n}":                    "no argument",
		"syslog tls://a {\n tls x\n}":                           "block",
		"syslog tls://a {\n tls {\n insecure\n}\n}":             "it knows ca",
		"syslog tls://a {\n tls {\n client_certificate a\n}\n}": "<key file>",
		"syslog tls://a {\n facility a\n facility b\n}":         "already",
	} {
		_, err := unmarshal(text)
		mentions(t, err, cure)
	}
}

func TestAConfigurationThatCannotWorkSaysWhatToDo(t *testing.T) {
	for _, c := range []struct {
		config Config
		cure   string
	}{
		{Config{URL: "tcp://siem.example.com:601"}, "insecure"},
		{Config{URL: "tls://a", Facility: "local8"}, "local7"},
		{Config{URL: "tls://a", Facility: "24"}, "0 to 23"},
		{Config{URL: "tls://a", Facility: "013"}, "0 to 23"},
		{Config{URL: "tls://a", Hostname: "a b"}, "printable ASCII"},
		{Config{URL: "tls://a", Hostname: strings.Repeat("h", 256)}, "255"},
		{Config{URL: "tls://a", AppName: strings.Repeat("h", 49)}, "48"},
		{Config{URL: "tls://a", AppName: "ä"}, "48"},
		{Config{URL: "tls://a", Enterprise: "x"}, "digits"},
		{Config{URL: "tls://a", Enterprise: strings.Repeat("1", 27)}, "digits"},
		{Config{URL: "tls://a", Timeout: -1}, "timeout"},
		{Config{URL: "tls://a", Timeout: time.Hour}, "10m"},
		{Config{URL: "tls://a", Resend: time.Hour}, "10m"},
		{Config{URL: "tls://a", MaxMessage: 100}, "2048"},
		{Config{URL: "tls://a", TLS: TLS{Certificate: "x"}}, "two files"},
		{Config{URL: "tcp://127.0.0.1:601", TLS: TLS{CA: "x"}}, "has no TLS"},
		{Config{URL: "unix:///run/x", TLS: TLS{CA: "x"}}, "has no TLS"},
	} {
		_, err := Open(c.config, nil)
		mentions(t, err, c.cure)
	}
	for _, m := range []*Module{{URL: "udp://a:514"}, {URL: "tls://a", MaxMessage: -1}, {URL: "tls://a", TLS: TLS{CA: "{env.NOBODY_HAS_SET_THIS}"}}} {
		mentions(t, m.Provision(caddy.Context{}), "store syslog: ")
	}
}

func TestAURLIsReadInOneWayOnly(t *testing.T) {
	for url, want := range map[string]string{
		"tls://siem.example.com":       "tls://siem.example.com:6514",
		"TLS://SIEM.example.com:06514": "tls://siem.example.com:6514",
		"tls://siem.example.com:443/":  "tls://siem.example.com:443",
		"tls://[::1]":                  "tls://[::1]:6514",
		"tls://[0:0::1]:1":             "tls://[::1]:1",
		"tcp://127.0.0.1:601":          "tcp://127.0.0.1:601",
		"unix:///run//audit/../x.sock": "unix:///run/x.sock",
	} {
		got, err := parseTarget(url)
		if err != nil || got.location() != want {
			t.Errorf("%s is %s, want %s; %v", url, got.location(), want, err)
		}
	}
	for url, cure := range map[string]string{
		"":                          "tls://siem",
		"siem.example.com":          "begin with tls://",
		"https://siem.example.com":  "begin with tls://",
		"udp://siem.example.com":    "use tls://",
		"tls://":                    "host",
		"tls://{env.X}":             "{$NAME}",
		"tls://a:0":                 "port",
		"tls://a:65536":             "port",
		"tcp://a":                   "port",
		"tls://a/path":              "more than a host",
		"tls://a?x=1":               "more than a host",
		"tls://user:planted@a":      "more than a host",
		"tls://user:planted@a b:%%": "host",
		"unix://run/x":              "absolute",
		"unix://":                   "absolute",
	} {
		_, err := parseTarget(url)
		mentions(t, err, cure)
		if err != nil && strings.Contains(err.Error(), "planted") {
			t.Errorf("the error shows a password: %v", err)
		}
	}
}

func FuzzTarget(f *testing.F) {
	for _, url := range []string{"tls://siem.example.com", "tcp://[::1%25lo]:1", "unix:///a/b", "tls://a:1/?#", "tls://u@h", "tls://[fe80::1]"} {
		f.Add(url)
	}
	f.Fuzz(func(t *testing.T, url string) {
		got, err := parseTarget(url)
		if err != nil {
			return
		}
		again, err := parseTarget(got.location())
		if err != nil && strings.ContainsAny(got.host, "%") {
			return // what a zone or an escape stands for is not escaped again
		}
		if err != nil || again.location() != got.location() {
			t.Errorf("%q is shown as %q, which is read as %q, %v", url, got.location(), again.location(), err)
		}
	})
}

func TestTheModuleIsRegistered(t *testing.T) {
	info, err := caddy.GetModule("audit_log.stores.syslog")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := info.New().(*Module); !ok {
		t.Errorf("it is a %T", info.New())
	}
}
