package s3

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// testTerm is the lock's where a test has one.
const testTerm = caddy.Duration(300 * 24 * time.Hour)

func provision(t testing.TB, m *Module) *Module {
	t.Helper()
	if err := m.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestOptionsAndTheirErrors(t *testing.T) {
	for block, says := range map[string]string{
		"":                                       "",
		"region eu-central-1":                    "",
		"access_key {env.A}\nsecret_key {env.B}": "",
		"access_key {env.A}\nsecret_key {file./run/x}\nsession_token {env.C}": "",
		"access_key {env.A}":     "go together",
		"access_key AKIAPLANTED": "access_key is written out",
		"secret_key planted":     "secret_key is written out",
		"credentials iam":        "",
		"credentials env":        "",
		"credentials other":      "is not known",
		"credentials iam\naccess_key {env.A}\nsecret_key {env.B}": "credentials iam as well",
		"lock compliance 400d":           "",
		"lock governance 1h":             "",
		"lock compliance":                "",
		"lock":                           "lock takes a mode and a term",
		"lock compliance 1h 2h":          "lock takes a mode and a term",
		"lock compliance 7y":             "a year is 365d",
		"lock compliance -1h":            "not a duration above zero",
		"lock forever 1h":                `lock "forever" is not known`,
		"lock compliance 100000d":        "up to 100 years",
		"legal_hold on":                  "",
		"legal_hold maybe":               "takes on or off",
		"encryption aes256":              "",
		"encryption kms some-key":        "",
		"encryption kms":                 "needs the key's id",
		"encryption aes256 key":          "encryption takes",
		"encryption sse-c":               "SSE-C",
		"encryption rot13":               "is not known",
		"storage_class STANDARD_IA":      "",
		"storage_class Standard":         "storage_class",
		"addressing path":                "",
		"addressing sideways":            "addressing",
		"create on":                      "",
		"create":                         "takes on or off",
		"timeout 20s":                    "",
		"timeout 20":                     "not a duration",
		"timeout 20m":                    "out of range",
		"insecure":                       "",
		"insecure yes":                   "takes no argument",
		"tls {\nca ca.pem\n}":            "",
		"tls {\nclient_certificate a\n}": "tls client_certificate",
		"tls {\nkey a\n}":                "is not an option of tls",
		"bucket audit":                   "is not an option of store s3",
		"region a\nregion b":             "there is a region already",
	} {
		t.Run(block, func(t *testing.T) {
			m := new(Module)
			err := m.UnmarshalCaddyfile(caddyfile.NewTestDispenser("s3 https://s3.example.com/audit {\n" + block + "\n}"))
			if err == nil {
				err = m.Provision(caddy.Context{})
			}
			switch {
			case says == "" && err != nil:
				t.Error(err)
			case says != "":
				mentions(t, err, says)
				if err != nil && strings.Contains(strings.ToLower(err.Error()), "planted") {
					t.Errorf("the error shows a credential: %v", err)
				}
			}
		})
	}
	for _, line := range []string{"s3", "s3 a b"} {
		mentions(t, new(Module).UnmarshalCaddyfile(caddyfile.NewTestDispenser(line)), "takes one argument")
	}
	m := provision(t, &Module{URL: "https://s3.example.com/audit", Lock: LockCompliance, LockTerm: testTerm})
	if m.config.Lock != (Lock{LockCompliance, 300 * 24 * time.Hour}) {
		t.Errorf("%+v", m.config.Lock)
	}
	m = &Module{URL: "http://s3.example.com/audit"}
	mentions(t, m.Provision(caddy.Context{}), "is not encrypted", "insecure")
	m = &Module{URL: "http://127.0.0.1/audit", TLS: TLS{CA: "ca.pem"}}
	mentions(t, m.Provision(caddy.Context{}), "has no TLS")
}

func TestTheOneLineFormLocksNothingAndTakesTheKeysOfTheEnvironment(t *testing.T) {
	m := new(Module)
	if err := m.UnmarshalCaddyfile(caddyfile.NewTestDispenser("s3 https://s3.example.com/audit/prefix")); err != nil {
		t.Fatal(err)
	}
	provision(t, m)
	if d := m.Describe(); fmt.Sprint(d) != "{s3 https://s3.example.com/audit/prefix at_least_once}" {
		t.Errorf("%v", d)
	}
	if c := m.config; c.AccessKey != envAccessKey || c.SecretKey != envSecretKey || c.Lock != (Lock{}) || c.Timeout != time.Minute {
		t.Errorf("%+v", c)
	}
	if b := m.Batching(); b.BatchEntries != 5000 || b.BatchWait != 10*time.Second || b.BatchBytes != 4<<20 {
		t.Errorf("%+v", b)
	}
}
