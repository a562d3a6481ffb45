package syslogstore

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func provision(t testing.TB, m *Module) {
	t.Helper()
	if err := m.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
}

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
	provision(t, m)
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
	provision(t, m)
	want := Config{
		URL: "tls://siem.example.com:6514", Facility: "audit", AppName: "caddy-audit-log", Enterprise: "32473",
		Timeout: 10 * time.Second, Resend: 30 * time.Second, MaxMessage: 8192, probation: time.Second, closeTime: 5 * time.Second,
	}
	if diff := cmp.Diff(want, m.config, cmp.AllowUnexported(Config{})); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if m, err = unmarshal("syslog tls://a {\n resend none\n max_message none\n}"); err != nil || time.Duration(m.Resend) != NoResend || m.MaxMessage != NoMaxMessage {
		t.Errorf("none is %v and %v, %v", m.Resend, m.MaxMessage, err)
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

func TestAConfigurationIsCheckedBeforeItIsUsed(t *testing.T) {
	for _, m := range []*Module{{URL: "udp://a:514"}, {URL: "tls://a", MaxMessage: 1 << 31}, {URL: "tls://a", TLS: TLS{CA: "{env.NOBODY_HAS_SET_THIS}"}}} {
		mentions(t, m.Provision(caddy.Context{}), "store syslog: ")
	}
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
