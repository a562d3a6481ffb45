//go:build servers

package page

import (
	"io"
	"net/http"
	"testing"
	"time"
)

// callAs sends a call through the sidecar.
func callAs(t *testing.T, email, method, path string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, site.calls+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+site.session(email, time.Hour))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
}

// reloadUntil visits an address again and again until what it shows is true.
func (b *tab) reloadUntil(path, expression string, args ...any) {
	b.Helper()
	expression = format(expression, args...)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		b.visit(path)
		if ok, err := try[bool](b, expression); ok && err == nil {
			return
		}
	}
	b.Fatalf("%s never has: %s", path, expression)
}
