package httpclient

import (
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/google/go-cmp/cmp"
)

func unmarshal(text string) (o Options, own string, err error) {
	err = o.Unmarshal(caddyfile.NewTestDispenser(text), Block{Kind: "http", Example: "https://a", Own: []Own{{Name: "own", Value: &own}}})
	return o, own, err
}

func TestEveryOptionThatAllHaveIsRead(t *testing.T) {
	got, own, err := unmarshal(`http https://siem.example.com/ingest {
		own      1
		header   Authorization "Bearer {env.AUDIT_TOKEN}"
		header   X-Index main
		timeout  10s
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
	want := Options{
		URL:     "https://siem.example.com/ingest",
		Headers: []Header{{"Authorization", "Bearer {env.AUDIT_TOKEN}"}, {"X-Index", "main"}},
		Timeout: caddy.Duration(10 * time.Second), MaxBody: 1 << 20, Proxy: "http://proxy.example.com:3128", Insecure: true,
		TLS: TLS{CA: "ca.pem", Certificate: "cert.pem", Key: "key.pem", ServerName: "siem.internal"},
	}
	if diff := cmp.Diff(want, got); diff != "" || own != "1" {
		t.Errorf("own %q, options (-want +got):\n%s", own, diff)
	}
}

func TestAnOptionThatCannotBeReadSaysSo(t *testing.T) {
	for text, cure := range map[string]string{
		"http":                                                  "one argument",
		"http https://a.example.com b":                          "one argument",
		"http https://a {\n lines 3\n}":                         "it knows own, header",
		"http https://a {\n own\n}":                             "one argument",
		"http https://a {\n own 1\n own 2\n}":                   "already",
		"http https://a {\n timeout\n}":                         "one argument",
		"http https://a {\n timeout 3\n}":                       "as in 30s",
		"http https://a {\n timeout -3s\n}":                     "as in 30s",
		"http https://a {\n timeout 3s\n timeout 3s\n}":         "already",
		"http https://a {\n max_body 100\n}":                    "unit",
		"http https://a {\n max_body 5GiB\n}":                   "1MiB",
		"http https://a {\n header X\n}":                        "a name and a value",
		"http https://a {\n insecure yes\n}":                    "no argument",
		"http https://a {\n tls x\n}":                           "block",
		"http https://a {\n tls {\n insecure\n}\n}":             "it knows ca",
		"http https://a {\n tls {\n client_certificate a\n}\n}": "<key file>",
	} {
		if _, _, err := unmarshal(text); err == nil || !strings.Contains(err.Error(), cure) {
			t.Errorf("the error does not mention %q: %v", cure, err)
		}
	}
}
