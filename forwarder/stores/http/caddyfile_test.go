package httpstore

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
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
	m, err := unmarshal(`http https://siem.example.com/ingest {
		encoding ndjson
		compress zstd
		header   Authorization "Bearer {env.AUDIT_TOKEN}"
		header   X-Index main
		secret   {env.NEW} {env.OLD}
		method   PUT
		timeout  10s
		success  200 202-204
		refused  400
		max_body 1MiB
		proxy    http://proxy.example.com:3128
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
		Options: httpclient.Options{
			URL:     "https://siem.example.com/ingest",
			Headers: []httpclient.Header{{Name: "Authorization", Value: "Bearer {env.AUDIT_TOKEN}"}, {Name: "X-Index", Value: "main"}},
			Timeout: caddy.Duration(10 * time.Second), MaxBody: 1 << 20, Proxy: "http://proxy.example.com:3128", Insecure: true,
			TLS: httpclient.TLS{CA: "ca.pem", Certificate: "cert.pem", Key: "key.pem", ServerName: "siem.internal"},
		},
		Encoding: "ndjson", Compress: "zstd", Method: "PUT", Secrets: []string{"{env.NEW}", "{env.OLD}"},
		Success: []string{"200", "202-204"}, Refused: []string{"400"},
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
	if !filepath.IsAbs(m.config.TLS.CA) || m.Describe().Location != want.URL || m.Batching().BatchBytes >= 1<<20 {
		t.Errorf("provisioned as %+v", m.config)
	}
}

func TestAnOptionOfTheCaddyfileThatCannotBeReadSaysSo(t *testing.T) {
	for text, cure := range map[string]string{
		"http":                                                  "one argument",
		"http https://a.example.com b":                          "one argument",
		"http https://a {\n lines 3\n}":                         "it knows encoding",
		"http https://a {\n timeout\n}":                         "one argument",
		"http https://a {\n timeout 3\n}":                       "as in 30s",
		"http https://a {\n timeout -3s\n}":                     "as in 30s",
		"http https://a {\n max_body 100\n}":                    "unit",
		"http https://a {\n max_body 5GiB\n}":                   "1MiB",
		"http https://a {\n header X\n}":                        "a name and a value",
		"http https://a {\n secret\n}":                          "one argument or more",
		"http https://a {\n success\n}":                         "one argument or more",
		"http https://a {\n insecure yes\n}":                    "no argument",
		"http https://a {\n tls x\n}":                           "block",
		"http https://a {\n tls {\n insecure\n}\n}":             "it knows ca",
		"http https://a {\n tls {\n client_certificate a\n}\n}": "<key file>",
		"http https://a {\n method POST\n method PUT\n}":        "already",
	} {
		_, err := unmarshal(text)
		mentions(t, err, cure)
	}
}

func TestAConfigurationIsCheckedBeforeItIsUsed(t *testing.T) {
	for _, m := range []*Module{
		{Options: httpclient.Options{URL: "http://siem.example.com/"}},
		{Options: httpclient.Options{URL: "https://siem.example.com/"}, Success: []string{"2xx"}},
		{Options: httpclient.Options{URL: "https://siem.example.com/"}, Refused: []string{"x"}},
		{Options: httpclient.Options{URL: "https://siem.example.com/", MaxBody: -1}},
		{Options: httpclient.Options{URL: "https://siem.example.com/", TLS: httpclient.TLS{CA: "{env.NOBODY_HAS_SET_THIS}"}}},
	} {
		mentions(t, m.Provision(caddy.Context{}), "store http: ")
	}
}

func TestTheModuleOpensWithCredentialsFromTheEnvironmentAndFiles(t *testing.T) {
	r, url := newReceiver(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from-a-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HTTP_TEST_SECRET", secretOf("s"))
	m, err := unmarshal("http " + url + " {\n header X-Token \"Bearer {file." + file + "}\"\n secret {env.HTTP_TEST_SECRET}\n proxy none\n}")
	if err != nil {
		t.Fatal(err)
	}
	provision(t, m)
	s, err := m.Open(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Write(t.Context(), records(t, 1, 2)); err != nil {
		t.Fatal(err)
	}
	got := r.last(t)
	if got.Header.Get("X-Token") != "Bearer from-a-file" || !verifies(secretOf("s"), got.Header, got.body) {
		t.Errorf("headers %v", got.Header)
	}
	if err := os.WriteFile(file, []byte("renewed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), records(t, 1, 2)); err != nil {
		t.Fatal(err)
	}
	if got := r.last(t).Header.Get("X-Token"); got != "Bearer renewed" {
		t.Errorf("token %q", got)
	}
}

func TestTheModuleIsRegistered(t *testing.T) {
	info, err := caddy.GetModule("audit_log.stores.http")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := info.New().(*Module); !ok {
		t.Errorf("it is a %T", info.New())
	}
}
