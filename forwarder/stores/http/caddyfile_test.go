package httpstore

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient/clienttest"
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
		header   X-Index main
		secret   {env.NEW} {env.OLD}
		secret   {env.OLDER}
		method   PUT
		success  200 202-204
		refused  400
		max_body 1MiB
		tls {
			ca ca.pem
		}
	}`)
	if err != nil {
		t.Fatal(err)
	}
	want := &Module{
		Options: httpclient.Options{
			URL: "https://siem.example.com/ingest", Headers: []httpclient.Header{{Name: "X-Index", Value: "main"}},
			MaxBody: 1 << 20, TLS: httpclient.TLS{CA: "ca.pem"},
		},
		Encoding: "ndjson", Compress: "zstd", Method: "PUT", Secrets: []string{"{env.NEW}", "{env.OLD}", "{env.OLDER}"},
		Success: []string{"200", "202-204"}, Refused: []string{"400"},
	}
	clienttest.SurvivesJSON(t, want, m, new(Module), cmpopts.IgnoreUnexported(Module{}))
	provision(t, m)
	if !filepath.IsAbs(m.config.TLS.CA) || m.Describe().Location != want.URL || m.Batching().BatchBytes >= 1<<20 {
		t.Errorf("provisioned as %+v", m.config)
	}
}

func TestAnOptionOfTheCaddyfileThatCannotBeReadSaysSo(t *testing.T) {
	for text, cure := range map[string]string{
		"http":                                           "store http https://siem.example.com/ingest",
		"http https://a {\n lines 3\n}":                  "it knows encoding, compress, secret, method, success, refused, header, timeout",
		"http https://a {\n secret\n}":                   "one argument or more",
		"http https://a {\n success\n}":                  "one argument or more",
		"http https://a {\n method POST\n method PUT\n}": "already",
	} {
		_, err := unmarshal(text)
		clienttest.Mentions(t, err, cure)
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
		clienttest.Mentions(t, m.Provision(caddy.Context{}), "store http: ")
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
