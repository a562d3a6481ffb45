package viewer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// brokenGate can say nothing of anybody.
type brokenGate struct{ visitor, grant error }

func (g *brokenGate) Visitor(*http.Request) (*Visitor, error) { return new(Visitor), g.visitor }

func (g *brokenGate) Grant(context.Context, *Visitor, string) (*Grant, error) { return nil, g.grant }

func TestWhoMayReadCannotBeSaidNow(t *testing.T) {
	for name, err := range map[string]error{
		"the API fails": errors.New("it answered 500 at https://secret.example"), "the API is slow": fmt.Errorf("asking: %w", context.DeadlineExceeded),
	} {
		for what, gate := range map[string]*brokenGate{"who it is": {visitor: err}, "whether they may": {grant: err}} {
			r := newRig(t, func(o *Options) { o.Gate = gate })
			for _, path := range []string{"/platform/organizations/acme/audit", "/organizations/acme/audit", "/platform/organizations/acme/audit/export"} {
				resp := r.get("member:acme", path)
				text := body(t, resp)
				if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || strings.Contains(text, "secret") || strings.Contains(text, "shorter range") {
					t.Errorf("%s, %s, %s: %s %s", name, what, path, resp.Status, text)
				}
			}
		}
	}
}
