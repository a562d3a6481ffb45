package caddymodule

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// A probe has a listener of its own, so that it is no call.
func healthCaddyfile(t *testing.T) (caddyfile, probe string) {
	t.Helper()
	probe = ports.ForTest(t)
	_, port, err := net.SplitHostPort(probe)
	if err != nil {
		t.Fatal(err)
	}
	return rigCaddyfile + "http://:" + port + " {\n\tbind 127.0.0.1\n\taudit_log_health /healthz\n}\n", probe
}

func probeHealth(t *testing.T, method, at string) (*http.Response, health) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+at+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := oneCall.RoundTrip(req)
	// Caddy closes its listeners when it reloads, and with them connections that wait to be
	// accepted, as of any other site: whoever probes tries again.
	for range 3 {
		if !errors.Is(err, syscall.ECONNRESET) {
			break
		}
		resp, err = oneCall.RoundTrip(req)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var h health
	if method == http.MethodGet {
		if err := json.NewDecoder(resp.Body).Decode(&h); err != nil {
			t.Fatal(err)
		}
	}
	return resp, h
}

func TestAProbeIsAnsweredAsLongAsTheProcessRuns(t *testing.T) {
	r := newRig(t, ok)
	caddyfile, at := healthCaddyfile(t)
	r.load(caddyfile, proxy)
	resp, h := probeHealth(t, "GET", at)
	if resp.StatusCode != 200 || h.Status != "ok" || h.Buffer != healthOK || h.Passing || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v %+v", resp.StatusCode, resp.Header, h)
	}
	if resp, _ := probeHealth(t, "HEAD", at); resp.StatusCode != 200 || resp.ContentLength < 1 {
		t.Errorf("HEAD: %d, %d bytes", resp.StatusCode, resp.ContentLength)
	}
	if resp, _ := probeHealth(t, "POST", at); resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") == "" {
		t.Errorf("POST: %d", resp.StatusCode)
	}
	if s := r.status(); s.Calls.Seen != 0 {
		t.Errorf("a probe is a call: %+v", s.Calls)
	}
	r.load(caddyfile, proxy)
	if resp, h := probeHealth(t, "GET", at); resp.StatusCode != 200 || h.Buffer != healthOK {
		t.Errorf("after a reload: %d %+v", resp.StatusCode, h)
	}
}

// Each of a fleet has the same trouble: none must be taken away for it.
func TestABufferInTroubleShowsInTheBodyAndNotInTheStatus(t *testing.T) {
	disk := newSlowDisk(t)
	r := newRig(t, ok)
	caddyfile, at := healthCaddyfile(t)
	r.load(strings.Replace(caddyfile, "max_size 1MiB", "max_size 64MiB", 1), proxy)
	disk.hang(t)
	resp, h := probeHealth(t, "GET", at)
	disk.heal()
	if resp.StatusCode != 200 || h.Status != "ok" || h.Buffer != healthSlow {
		t.Errorf("%d %+v", resp.StatusCode, h)
	}
}

func TestEachStateOfTheBufferHasItsWord(t *testing.T) {
	for want, b := range map[string]buffer.Stats{
		healthOK:      {Bytes: 1 << 20, MaxBytes: 8 << 20, FreeBytes: -1},
		healthFull:    {Bytes: 8 << 20, MaxBytes: 8 << 20, FreeBytes: -1},
		healthFailing: {Bytes: 8 << 20, MaxBytes: 8 << 20, Failing: errors.New("EIO of acme's disk"), Slow: true},
		healthSlow:    {MaxBytes: 8 << 20, Slow: true},
	} {
		h := healthOfBuffer(b)
		body, err := json.Marshal(h)
		if err != nil || h.Buffer != want || strings.Contains(string(body), "acme") {
			t.Errorf("%+v, want %s", h, want)
		}
	}
	if h := healthOfBuffer(buffer.Stats{MaxBytes: 8 << 20, FreeBytes: 1, MinFreeBytes: 2, Passing: true}); h.Buffer != healthFull || !h.Passing {
		t.Errorf("a full disk: %+v", h)
	}
	if h := healthOf(nil); h.Status != "ok" || h.Buffer != healthClosed {
		t.Errorf("before the start: %+v", h)
	}
}
