package otlp

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient/clienttest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/certtest"
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
	m, err := unmarshal(`otlp https://collector.example.com:4318 {
		compress none
		header   Authorization "Bearer {env.AUDIT_TOKEN}"
		max_body 1MiB
		tls {
			ca ca.pem
		}
	}`)
	if err != nil {
		t.Fatal(err)
	}
	want := &Module{Compress: "none"}
	want.URL, want.MaxBody, want.TLS.CA = "https://collector.example.com:4318", 1<<20, "ca.pem"
	want.Headers = []httpclient.Header{{Name: "Authorization", Value: "Bearer {env.AUDIT_TOKEN}"}}
	clienttest.SurvivesJSON(t, want, m, new(Module), cmpopts.IgnoreUnexported(Module{}))
	provision(t, m)
	if !filepath.IsAbs(m.config.HTTP.TLS.CA) || m.Describe().Location != want.URL+"/v1/logs" || m.Batching().BatchBytes >= 1<<20 {
		t.Errorf("provisioned as %+v", m.config)
	}
}

func TestAnOptionOfTheCaddyfileThatCannotBeReadSaysSo(t *testing.T) {
	for text, cure := range map[string]string{
		"otlp":                                "store otlp https://collector.example.com:4318",
		"otlp https://a {\n encoding json\n}": "it knows compress, header, timeout, max_body, proxy, tls, insecure",
		"otlp https://a {\n compress\n}":      "one argument",
	} {
		_, err := unmarshal(text)
		clienttest.Mentions(t, err, cure)
	}
	m := &Module{Options: httpclient.Options{URL: "https://a"}, Compress: "br"}
	clienttest.Mentions(t, m.Provision(caddy.Context{}), "store otlp: ", "gzip")
}

func TestTheLineAloneDoesTheRightThing(t *testing.T) {
	r, url := newReceiver(t)
	m, err := unmarshal("otlp " + url)
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
	if got := r.last; got.URL.Path != "/v1/logs" || got.Header.Get("Content-Encoding") != "gzip" || len(documents(r.all[0])) != 2 {
		t.Errorf("%s, headers %v", got.URL, got.Header)
	}
}

func TestACertificateIsReadAgainWhenItChanges(t *testing.T) {
	a, b := certtest.NewAuthority(t), certtest.NewAuthority(t)
	ca := certtest.Save(t, filepath.Join(t.TempDir(), "ca.pem"), a.PEM())
	r := &receiver{t: t}
	c := config(clienttest.ServeTLS(t, r, b, nil, nil))
	c.HTTP.TLS.CA = ca
	s := open(t, c)
	clienttest.Mentions(t, fails(t, s), "certificate", "tls ca")
	certtest.Save(t, ca, b.PEM())
	write(t, s, records(t, 1, 1))
	if r.last.ProtoMajor != 2 {
		t.Errorf("protocol %s", r.last.Proto)
	}
}

func TestTheModuleIsRegistered(t *testing.T) {
	info, err := caddy.GetModule("audit_log.stores.otlp")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := info.New().(*Module); !ok {
		t.Errorf("it is a %T", info.New())
	}
}
