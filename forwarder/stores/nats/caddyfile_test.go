package natsstore

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/tlsfiles"
)

func unmarshal(text string) (*Module, error) {
	m := new(Module)
	return m, m.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text))
}

func provision(t testing.TB, m *Module) {
	t.Helper()
	if err := m.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
}

func TestEveryOptionOfTheCaddyfileIsRead(t *testing.T) {
	m, err := unmarshal(`nats tls://nats-1.example.com tls://nats-2.example.com:4223 {
		stream           TRAIL
		subject          trail.prod
		domain           hub
		create           off
		replicas         5
		max_age          400d
		max_age          30d unattributed short-lived
		max_bytes        1TiB
		duplicate_window 30m
		deny_delete
		deny_purge
		timeout          20s
		credentials      audit.creds
		tls {
			ca                 ca.pem
			client_certificate cert.pem key.pem
			server_name        nats.internal
			first
		}
		insecure
	}`)
	if err != nil {
		t.Fatal(err)
	}
	const day = 24 * time.Hour
	want := &Module{
		Servers: []string{"tls://nats-1.example.com", "tls://nats-2.example.com:4223"}, Stream: "TRAIL", Subject: "trail.prod", Domain: "hub",
		Create: "off", Replicas: 5, MaxBytes: 1 << 40, DuplicateWindow: caddy.Duration(30 * time.Minute), DenyDelete: true, DenyPurge: true,
		MaxAge:  map[string]caddy.Duration{"": caddy.Duration(400 * day), "unattributed": caddy.Duration(30 * day), "short-lived": caddy.Duration(30 * day)},
		Timeout: caddy.Duration(20 * time.Second), Credentials: "audit.creds", Insecure: true,
		TLS: TLS{Files: tlsfiles.Files{CA: "ca.pem", Certificate: "cert.pem", Key: "key.pem", ServerName: "nats.internal"}, First: true},
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
	if !filepath.IsAbs(m.config.TLS.CA) || !filepath.IsAbs(m.config.Credentials) || m.Describe().Location != "nats://nats-1.example.com:4222/hub/TRAIL" {
		t.Errorf("provisioned as %+v", m.config)
	}
	if c := m.config; c.maxAge("unattributed") != 30*day || c.maxAge("default") != 400*day || !c.NoCreate {
		t.Errorf("provisioned as %+v", c)
	}
}

func TestTheOtherWaysToSignInAreRead(t *testing.T) {
	for text, want := range map[string]Module{
		"nats nats://localhost {\n user {env.U} {env.P}\n}":  {User: "{env.U}", Password: "{env.P}"},
		"nats nats://localhost {\n token {env.T}\n}":         {Token: "{env.T}"},
		"nats nats://localhost {\n nkey {file./run/seed}\n}": {NKey: "{file./run/seed}"},
	} {
		m, err := unmarshal(text)
		if err != nil {
			t.Fatal(err)
		}
		provision(t, m)
		if m.User != want.User || m.Password != want.Password || m.Token != want.Token || m.NKey != want.NKey {
			t.Errorf("%s: %+v", text, m)
		}
	}
}

func TestAnOptionOfTheCaddyfileThatCannotBeReadSaysSo(t *testing.T) {
	for text, cure := range map[string]string{
		"nats":                                                     "as in: store nats",
		"nats nats://a {\n lines 3\n}":                             "it knows stream",
		"nats nats://a {\n stream\n}":                              "one argument",
		"nats nats://a {\n replicas\n}":                            "one argument",
		"nats nats://a {\n replicas 0\n}":                          "from 1 to 5",
		"nats nats://a {\n replicas three\n}":                      "from 1 to 5",
		"nats nats://a {\n max_bytes 100\n}":                       "as in 100GiB",
		"nats nats://a {\n timeout 3\n}":                           "as in 30s",
		"nats nats://a {\n duplicate_window -3s\n}":                "as in 30s",
		"nats nats://a {\n max_age\n}":                             "as in: max_age",
		"nats nats://a {\n max_age forever\n}":                     "as in 400d",
		"nats nats://a {\n max_age 30d x\n max_age 31d x\n}":       "remove one",
		"nats nats://a {\n user {env.U}\n}":                        "two placeholders",
		"nats nats://a {\n insecure yes\n}":                        "no argument",
		"nats nats://a {\n tls x\n}":                               "block",
		"nats nats://a {\n tls {\n insecure\n}\n}":                 "it knows ca",
		"nats nats://a {\n tls {\n client_certificate a\n}\n}":     "<key file>",
		"nats nats://a {\n stream A\n stream B\n}":                 "already",
		"nats nats://a {\n deny_purge\n deny_purge\n}":             "already",
		"nats nats://a {\n tls {\n ca\n}\n}":                       "ca <file>",
		"nats nats://a {\n create on off\n}":                       "one argument",
		"nats nats://a {\n max_age 1d default\n max_age 1d\n x\n}": "it knows",
	} {
		_, err := unmarshal(text)
		mentions(t, err, cure)
	}
}

func TestTheModuleIsRegistered(t *testing.T) {
	info, err := caddy.GetModule("audit_log.stores.nats")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := info.New().(*Module); !ok {
		t.Errorf("it is a %T", info.New())
	}
}

func TestAModuleIsCheckedBeforeItIsUsed(t *testing.T) {
	for _, m := range []*Module{
		{},
		{Servers: []string{"nats://nats.example.com"}},
		{Servers: []string{"nats://localhost"}, Create: "maybe"},
		{Servers: []string{"nats://localhost"}, TLS: TLS{Files: tlsfiles.Files{CA: "{env.NOBODY_HAS_SET_THIS}"}}},
	} {
		mentions(t, m.Provision(caddy.Context{}), "store nats: ")
	}
}
