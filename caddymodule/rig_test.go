package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// rig is a real Caddy in this process before a real HTTP server. Caddy is one
// per process, so tests with a rig do not run in parallel.
type rig struct {
	t    *testing.T
	dir  string
	addr string
	api  *httptest.Server

	loaded, reloaded bool
}

// A Caddyfile of a rig: %DIR%, %PORT%, %API%, %SITE% and %STORE% are replaced.
const rigCaddyfile = `{
	admin unix/%DIR%/admin.sock|0600
	persist_config off
	storage file_system %DIR%/storage
	log {
		level ERROR
	}
	servers {
		trusted_proxies static 127.0.0.9
		trusted_proxies_strict
		max_header_size 4MiB
	}
	audit_log {
		buffer %DIR%/audit/buffer {
			max_wait 1m
			max_size 1MiB
			segment_size 1MiB
		}
		store sqlite %STORE%
	}
}
http://:%PORT% {
	bind 127.0.0.1
	audit_log {
		platform supabase
	}
	%SITE%
}
`

const proxy = "reverse_proxy %API%"

func newRig(t *testing.T, api http.HandlerFunc) *rig {
	t.Helper()
	addr := ports.ForTest(t)
	dir, err := os.MkdirTemp("", "rig") // a short path: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, addr: addr, api: httptest.NewServer(api)}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
		r.api.Close()
		// A test may leave a store that cannot be opened, and its drain with it.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = r.closed(ctx)
		_ = os.RemoveAll(dir)
	})
	return r
}

func (r *rig) expand(caddyfile, site string) string {
	_, port, _ := net.SplitHostPort(r.addr)
	return strings.NewReplacer("%DIR%", r.dir, "%PORT%", port, "%API%", r.api.Listener.Addr().String(),
		"%STORE%", filepath.Join(r.dir, "audit", "audit.db")).Replace(strings.ReplaceAll(caddyfile, "%SITE%", site))
}

func adapt(t *testing.T, caddyfile string) []byte {
	t.Helper()
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range warnings {
		if !strings.Contains(w.Message, "not formatted") {
			t.Error(w.Message)
		}
	}
	return config
}

func (r *rig) load(caddyfile, site string) {
	r.t.Helper()
	if err := r.tryLoad(r.expand(caddyfile, site)); err != nil {
		r.t.Fatal(err)
	}
}

// tryLoad loads what may be wrong. One that fails has shared the ports, too; see send.
func (r *rig) tryLoad(caddyfile string) error {
	r.t.Helper()
	err := caddy.Load(adapt(r.t, caddyfile), true)
	r.reloaded, r.loaded = r.loaded, true
	// Caddy closes the old listener beside us, and calls go there until it has.
	for deadline := time.Now().Add(time.Minute); caddy.ListenerUsage("tcp", r.addr) > 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatal("the old listener is not closed")
		}
	}
	return err
}

// start runs a rig with the usual Caddyfile.
func start(t *testing.T, site string, api http.HandlerFunc) *rig {
	t.Helper()
	r := newRig(t, api)
	r.load(rigCaddyfile, site)
	return r
}

func (r *rig) request(method, path string, header map[string]string, body string) *http.Request {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, "http://"+r.addr+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	return req
}

// oneCall keeps no connection, which a reload could close under the next call.
var oneCall = &http.Transport{DisableKeepAlives: true}

// send returns the answer with its body read.
func (r *rig) send(method, path string, header map[string]string, body string) (*http.Response, string) {
	r.t.Helper()
	return r.do(func() *http.Request { return r.request(method, path, header, body) })
}

// do makes and sends a request, anew where the first never reached a handler.
func (r *rig) do(request func() *http.Request) (*http.Response, string) {
	r.t.Helper()
	resp, err := oneCall.RoundTrip(request())
	if r.reloaded && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) {
		// Caddy's old and new listeners share the port by SO_REUSEPORT, and the
		// kernel resets what waits at the old one when it closes: such a
		// connection never reached a handler.
		resp, err = oneCall.RoundTrip(request())
	}
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp, string(b)
}

// buffered are the calls' entries in the buffer, in order.
func (r *rig) buffered() []*audit.Entry {
	r.t.Helper()
	return slices.DeleteFunc(r.everything(), (*audit.Entry).IsEvent)
}

// events are the sidecar's own entries in the buffer, in order.
func (r *rig) events() []*audit.Entry {
	r.t.Helper()
	return slices.DeleteFunc(r.everything(), func(e *audit.Entry) bool { return !e.IsEvent() })
}

// calls waits until the buffer has that many entries of calls.
func (r *rig) calls(n int) []*audit.Entry {
	r.t.Helper()
	for {
		head := r.status().Head // before they are read, or what comes meanwhile would not be noticed
		entries := r.buffered()
		if len(entries) >= n {
			return entries
		}
		if _, err := running.current().shared.Load().buf.Wait(r.t.Context(), head); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) everything() []*audit.Entry {
	r.t.Helper()
	app := running.current()
	var entries []*audit.Entry
	err := app.shared.Load().buf.Read(1, func(_ uint64, p []byte) bool {
		e, err := audit.Decode(p)
		if err != nil {
			r.t.Errorf("entry %q: %v", p, err)
			return false
		}
		entries = append(entries, e)
		return true
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return entries
}

// only is the one entry of the buffer.
func (r *rig) only() *audit.Entry {
	r.t.Helper()
	e := r.buffered()
	if len(e) != 1 {
		b, _ := json.MarshalIndent(e, "", " ")
		r.t.Fatalf("%d entries, want 1: %s", len(e), b)
	}
	return e[0]
}

func (r *rig) status() operator.Status {
	r.t.Helper()
	s, ok := running.current().status()
	if !ok {
		r.t.Fatal("the buffer is not open")
	}
	return s
}

// drained waits until the stores have everything.
func (r *rig) drained() operator.Status {
	r.t.Helper()
	// A store that was down is tried again after half a minute at most.
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if s := r.status(); s.Stores[0].Pending == 0 {
			return s
		}
	}
	r.t.Fatalf("the store did not take everything: %+v", r.status())
	return operator.Status{}
}

// exported is what `caddy audit export` prints, of the rig's server if it is not told otherwise.
func (r *rig) exported(args ...string) []*audit.Entry {
	r.t.Helper()
	if len(args) == 0 {
		args = []string{"--address", r.admin()}
	}
	out, messages, err := auditedWith(context.Background(), "", append([]string{"export"}, args...)...)
	if err != nil {
		r.t.Fatal(err, messages)
	}
	var entries []*audit.Entry
	for line := range strings.Lines(out) {
		e, err := audit.Decode([]byte(line))
		if err != nil {
			r.t.Fatal(err)
		}
		if !e.IsEvent() {
			entries = append(entries, e)
		}
	}
	return entries
}

// stop ends Caddy and waits until the buffer is closed.
func (r *rig) stop() {
	r.t.Helper()
	if err := caddy.Stop(); err != nil {
		r.t.Fatal(err)
	}
	if err := r.closed(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// closed waits until the rig's buffers are closed, drains included, or ctx ends. What another
// test has left behind may never be.
func (r *rig) closed(ctx context.Context) error { return buffers.idle(ctx, r.dir) }
