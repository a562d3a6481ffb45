package caddymodule

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/internal/planted"
)

// Credentials of every kind, wherever the allow-lists of a site look: nothing of
// them is in its buffer, its store or its log.
func TestNoPlantedSecretReachesTheStore(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body) // and the worst API sends it back
		w.Header().Set("Content-Type", req.Header.Get("Content-Type"))
		_, _ = w.Write(b)
	})
	caddyfile := strings.Replace(withRules(`capture body all query:sql
		capture query q
		capture header X-Note
		capture response all`), "level ERROR", "output file "+filepath.Join(r.dir, "audit", "caddy.log"), 1)
	r.load(caddyfile, proxy)
	quoted := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	secrets := append(planted.Shapes(), planted.Pairs()...)
	for _, s := range secrets {
		line := strings.ReplaceAll(s.Text, "\n", " ")
		header := map[string]string{"Content-Type": "application/json", "X-Note": line, "X-Other": line}
		encoded := base64.StdEncoding.EncodeToString([]byte(s.Text))
		body := quoted(map[string]any{
			"all": map[string]any{
				"note": s.Text, "deep": []any{map[string]any{"x": s.Text}}, "base64": encoded, "percent": url.QueryEscape(s.Text),
				"json": quoted(map[string]any{"note": s.Text}), s.Text: true, "password": s.Text,
			},
			"query": "select 1 where x = '" + strings.ReplaceAll(s.Text, "'", "''") + "'", "not_allowed": s.Text,
		})
		if resp, _ := r.send("POST", "/things?q="+url.QueryEscape(s.Text)+"&other="+url.QueryEscape(s.Text), header, body); resp.StatusCode != 200 {
			t.Fatalf("%s: %d", s.Kind, resp.StatusCode)
		}
		form := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
		r.send("POST", "/things", form, "all="+url.QueryEscape(s.Text)+"&x="+url.QueryEscape(s.Text))
	}
	if s := r.drained(); !s.Conserved || int(s.Calls.Recorded) != 2*len(secrets) {
		t.Errorf("%+v", s.Calls)
	}
	captured := 0
	file := filepath.Join(r.dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(r.expand(caddyfile, proxy)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, e := range r.exported("--config", file, "--adapter", "caddyfile") {
		if body, ok := e.Action.Metadata["body"].(map[string]any); ok && body["all"] != nil {
			captured++
		}
	}
	if captured < len(secrets) {
		t.Errorf("only %d of %d bodies were captured", captured, 2*len(secrets))
	}
	files := r.files()
	for _, s := range secrets {
		if piece := planted.Leaked(files, s.Part); piece != "" {
			t.Errorf("%s: %q is on the disk", s.Kind, piece)
		}
	}
	if _, err := os.Stat(filepath.Join(r.dir, "audit", "caddy.log")); err != nil {
		t.Error(err)
	}
	t.Logf("%d kinds, %d calls, %d bytes of files", len(secrets), 2*len(secrets), len(files))
}
