package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"syscall"
	"time"
)

// What Admin.Load takes.
const (
	TypeJSON      = "application/json"
	TypeCaddyfile = "text/caddyfile"
)

// Admin is a running build's admin endpoint.
type Admin struct{ client *http.Client }

// NewAdmin speaks to whichever process of the site is running.
func NewAdmin(site *Site) *Admin {
	socket := site.socket()
	return &Admin{&http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		// Each reload replaces the endpoint's server too.
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
}

// socket is where the site's processes have their admin endpoint.
func (s *Site) socket() string { return filepath.Join(s.Dir, "admin.sock") }

// Do asks the endpoint anything.
//
// A reload begins the endpoint anew. A connection that the old one still took is closed
// without an answer once it is shutting down, before any handler has seen the request, so
// that is asked again. Who has died instead does not listen any more.
func (a *Admin) Do(ctx context.Context, method, path, contentType string, body []byte) (status int, answer []byte, err error) {
	for range 5 {
		status, answer, err = a.ask(ctx, method, path, contentType, body)
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			break
		}
		select {
		case <-ctx.Done():
			return status, answer, err
		case <-time.After(50 * time.Millisecond):
		}
	}
	return status, answer, err
}

func (a *Admin) ask(ctx context.Context, method, path, contentType string, body []byte) (int, []byte, error) {
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

// Adapt makes JSON of a Caddyfile, in the environment of the running build.
func (a *Admin) Adapt(ctx context.Context, caddyfile string) (map[string]any, error) {
	status, answer, err := a.Do(ctx, http.MethodPost, "/adapt", TypeCaddyfile, []byte(caddyfile))
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

// Load makes a configuration of a type the running one, as `caddy reload`
// does. refusal is empty if it was taken.
func (a *Admin) Load(ctx context.Context, contentType string, config []byte) (refusal string, err error) {
	status, answer, err := a.Do(ctx, http.MethodPost, "/load", contentType, config)
	if err != nil || status == http.StatusOK {
		return "", err
	}
	return fmt.Sprintf("%d: %s", status, bytes.TrimSpace(answer)), nil
}
