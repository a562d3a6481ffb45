package tlsfiles

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// unmarshal reads a block as a store does.
func unmarshal(text string, further map[string]*bool) (f Files, err error) {
	d := caddyfile.NewTestDispenser(text)
	d.Next()
	return f, f.UnmarshalCaddyfile(d, further)
}

func TestTheBlockNamesFiles(t *testing.T) {
	var first bool
	f, err := unmarshal("tls {\n ca ca.pem\n client_certificate cert.pem key.pem\n server_name siem.internal\n first\n}", map[string]*bool{"first": &first})
	if want := (Files{"ca.pem", "cert.pem", "key.pem", "siem.internal"}); err != nil || f != want || !first {
		t.Errorf("%+v %v %v", f, first, err)
	}
	t.Setenv("CERTS", "certs")
	f.CA = "{env.CERTS}/ca.pem"
	if err := f.Provision(); err != nil {
		t.Fatal(err)
	}
	for _, name := range f.Names() {
		if !filepath.IsAbs(name) {
			t.Errorf("%q depends on where the server is started", name)
		}
	}
	if !strings.HasSuffix(filepath.ToSlash(f.CA), "/certs/ca.pem") {
		t.Errorf("ca is %q", f.CA)
	}
	if err := (&Files{Key: "{env.NOBODY_HAS_SET_THIS}"}).Provision(); err == nil {
		t.Error("a placeholder that stands for nothing is taken")
	}
}

func TestABlockThatIsWrongSaysWhatIsRight(t *testing.T) {
	for text, want := range map[string]string{
		"tls on":                              "block",
		"tls {\n ca\n}":                       "ca <file>",
		"tls {\n client_certificate one\n}":   "<key file>",
		"tls {\n server_name a b\n}":          "server_name <name>",
		"tls {\n first\n}":                    `"first" is not an option`,
		"tls {\n insecure_skip_verify\n}":     "it knows ca, client_certificate, server_name",
		"tls {\n ca a.pem b.pem\n}":           "ca <file>",
		"tls {\n client_certificate a b c\n}": "<key file>",
	} {
		if _, err := unmarshal(text, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	first := false
	if _, err := unmarshal("tls {\n first yes\n}", map[string]*bool{"first": &first}); err == nil || !strings.Contains(err.Error(), "server_name <name>, first") {
		t.Error(err)
	}
}

func TestAFileThatIsWrongIsNamed(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text, large := file("text", []byte("no certificate")), file("large", bytes.Repeat([]byte("x"), maxFile+1))
	for what, f := range map[string]Files{
		"no certificate in PEM":        {CA: text},
		"larger":                       {CA: large},
		"reading tls ca":               {CA: filepath.Join(dir, "none")},
		"client_certificate":           {Certificate: text, Key: text},
		"the key of tls":               {Certificate: text, Key: filepath.Join(dir, "none")},
		"reading tls client_certifica": {Certificate: large, Key: text},
	} {
		if _, err := f.Config(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := (Files{Certificate: text}).Check(); err == nil {
		t.Error("a certificate without its key is taken")
	}
	if c, err := (Files{}).Config(); err != nil || c.RootCAs != nil {
		t.Errorf("nothing is configured: %v", err)
	}
}
