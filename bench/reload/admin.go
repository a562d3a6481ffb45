package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// admin is a running build's admin endpoint.
type admin struct{ client *http.Client }

func newAdmin(site *rig.Site) *admin {
	socket := filepath.Join(site.Dir, "admin.sock")
	return &admin{&http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		// Each reload replaces the endpoint's server too.
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
}

func (a *admin) do(ctx context.Context, method, path, contentType string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://admin"+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", contentType)
	// As `caddy reload --force` does: a configuration is loaded even if it is
	// the one that runs.
	req.Header.Set("Cache-Control", "must-revalidate")
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("calling the admin endpoint: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, fmt.Errorf("calling the admin endpoint: %s %s: %w", method, path, err)
	}
	return resp.StatusCode, answer, nil
}

// adapt makes JSON of a Caddyfile, in the environment of the running build.
func (a *admin) adapt(ctx context.Context, caddyfile string) (map[string]any, error) {
	status, answer, err := a.do(ctx, http.MethodPost, "/adapt", "text/caddyfile", []byte(caddyfile))
	if err != nil {
		return nil, err
	}
	var adapted struct {
		Result map[string]any `json:"result"`
	}
	if err := json.Unmarshal(answer, &adapted); err != nil || status != http.StatusOK || adapted.Result == nil {
		return nil, fmt.Errorf("adapting the Caddyfile: %d: %.500s", status, answer)
	}
	return adapted.Result, nil
}

// load makes a configuration the running one, as `caddy reload` does. refusal
// is empty if it was taken.
func (a *admin) load(ctx context.Context, config map[string]any) (refusal string, err error) {
	b, err := json.Marshal(config)
	if err != nil {
		return "", fmt.Errorf("reloading: %w", err)
	}
	status, answer, err := a.do(ctx, http.MethodPost, "/load", "application/json", b)
	if err != nil || status == http.StatusOK {
		return "", err
	}
	return fmt.Sprintf("%d: %s", status, bytes.TrimSpace(answer)), nil
}

// goroutines counts those of the running build, this request's included, and
// returns where they are.
func (a *admin) goroutines(ctx context.Context) (int, []byte, error) {
	_, profile, err := a.do(ctx, http.MethodGet, "/debug/pprof/goroutine?debug=1", "", nil)
	if err != nil {
		return 0, nil, err
	}
	var n int
	if _, err := fmt.Sscanf(string(profile), "goroutine profile: total %d", &n); err != nil {
		return 0, nil, fmt.Errorf("counting goroutines: %w: %.200q", err, profile)
	}
	return n, profile, nil
}
