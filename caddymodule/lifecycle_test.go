package caddymodule

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
)

func TestMetricsSurviveReloads(t *testing.T) {
	r := newRig(t, ok)
	site := proxy + "\n handle /metrics {\n metrics\n }"
	for i := range 3 {
		r.load(strings.ReplaceAll(rigCaddyfile, "1MiB\n\t\t}", "1MiB\n\t\t\tmax_wait "+[]string{"1s", "2s", "3s"}[i]+"\n\t\t}"), site)
		r.send("POST", project, nil, "")
	}
	r.drained()
	_, text := r.send("GET", "/metrics", nil, "")
	for _, want := range []string{
		`caddy_audit_calls_seen_total 3`,
		`caddy_audit_calls_total{term="recorded"} 3`,
		`caddy_audit_calls_total{term="refused"} 0`,
		`caddy_audit_store_entries_total{store="sqlite",term="delivered"} 6`, // and started and two changes
		`caddy_audit_store_pending_entries{store="sqlite"} 0`,
		`caddy_audit_oldest_pending_seconds 0`,
		`caddy_audit_head_sequence 6`,
		`caddy_audit_buffer_bytes `,
		`caddy_audit_commit_duration_seconds_count `,
		`caddy_audit_overhead_seconds_count{phase="intent"} `,
		`caddy_audit_overhead_seconds_count{phase="outcome"} `,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %q", want)
		}
	}
}

func TestACallInFlightOverAReloadIsRecorded(t *testing.T) {
	release := make(chan struct{})
	reached := make(chan struct{})
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		if req.Method == "POST" {
			close(reached)
			<-release
		}
		_, _ = io.WriteString(w, "done")
	})
	r.load(rigCaddyfile, proxy)
	var wg sync.WaitGroup
	wg.Go(func() {
		if resp, _ := r.send("POST", project, nil, ""); resp.StatusCode != 200 {
			t.Errorf("status %d", resp.StatusCode)
		}
	})
	<-reached
	r.load(rigCaddyfile, "header X-New yes\n"+proxy)
	if resp, _ := r.send("GET", project, nil, ""); resp.Header.Get("X-New") != "yes" {
		t.Error("the reload did not take")
	}
	close(release)
	wg.Wait()
	r.drained()
	if e := r.buffered(); len(e) != 2 || e[1].Action.Method != "POST" || e[1].Outcome != audit.OutcomeSuccess {
		t.Errorf("%d entries", len(e))
	}
}

func TestAFailedReloadLeavesEverythingAsItWas(t *testing.T) {
	r := start(t, proxy, ok)
	r.send("POST", project, nil, "")
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, port, _ := net.SplitHostPort(busy.Addr().String())
	bad := strings.Replace(r.expand(rigCaddyfile, proxy), "max_size 1MiB", "max_size 2MiB", 1) +
		"\nhttp://:" + port + " {\n\tbind 127.0.0.1\n\trespond taken\n}\n"
	if err := r.tryLoad(bad); err == nil {
		t.Fatal("two servers listen on one port")
	}
	r.send("POST", project, nil, "")
	s := r.drained()
	if s.BufferMaxBytes != 1<<20 || s.Calls.Recorded != 2 || s.Stores[0].Pending != 0 || !s.Conserved {
		t.Errorf("status %s, bound %d", s.Text(), s.BufferMaxBytes)
	}
}

func TestTheBufferIsFreeWhenNoConfigurationUsesIt(t *testing.T) {
	r := start(t, proxy, ok)
	r.send("POST", project, nil, "")
	if err := caddy.Load(adapt(t, "{\n\tadmin unix/"+r.dir+"/admin.sock\n\tpersist_config off\n}\n"), true); err != nil {
		t.Fatal(err)
	}
	b := openWhenFree(t, filepath.Join(r.dir, "audit", "buffer"))
	if got := b.Stats().Head; got != 3 { // started, the call, stopped
		t.Errorf("head %d, want 3", got)
	}
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if running.current() != nil {
		t.Error("a configuration without an audit log is current")
	}
}

// openWhenFree waits for a drain to end.
func openWhenFree(t *testing.T, dir string) *buffer.Buffer {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		b, err := buffer.Open(dir, buffer.Options{})
		if err == nil {
			t.Cleanup(func() { _ = b.Close(context.Background()) })
			return b
		}
		if !errors.Is(err, buffer.ErrLocked) {
			t.Fatal(err)
		}
	}
	t.Fatal("the buffer did not become free")
	return nil
}

func TestABufferThatAReloadLeavesIsDeliveredAndThenFree(t *testing.T) {
	r := newRig(t, ok)
	// Its store cannot be opened at first, so that the buffer has a backlog.
	db := filepath.Join(r.dir, "audit", "audit.db")
	if err := os.MkdirAll(db, 0o700); err != nil {
		t.Fatal(err)
	}
	r.load(rigCaddyfile, proxy)
	for range 20 {
		r.send("POST", project, nil, "")
	}
	elsewhere := strings.NewReplacer("%DIR%/audit/buffer", "%DIR%/elsewhere/buffer", "%STORE%", "%DIR%/elsewhere.db").Replace(rigCaddyfile)
	r.load(elsewhere, proxy)
	r.send("POST", project, nil, "")
	if s := r.drained(); s.Calls.Recorded != 1 || !strings.HasSuffix(s.Directory, "elsewhere/buffer") {
		t.Errorf("the new buffer: %s", s.Text())
	}
	if err := os.Remove(db); err != nil {
		t.Fatal(err)
	}
	b := openWhenFree(t, filepath.Join(r.dir, "audit", "buffer"))
	if s := b.Stats(); s.Calls.Recorded != 20 || s.Head != s.Stores["sqlite"].Position {
		t.Errorf("head %d, position %+v", s.Head, s.Stores["sqlite"])
	}
}

func TestACallInFlightOverAChangeOfDirectoryIsDelivered(t *testing.T) {
	release, reached := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(_ http.ResponseWriter, req *http.Request) {
		if req.Method == "PUT" {
			close(reached)
			<-release
		}
	})
	r.load(rigCaddyfile, proxy)
	var wg sync.WaitGroup
	wg.Go(func() { r.send("PUT", project, nil, "") })
	<-reached
	r.drained()
	r.load(strings.NewReplacer("%DIR%/audit/buffer", "%DIR%/elsewhere/buffer", "%STORE%", "%DIR%/elsewhere.db").Replace(rigCaddyfile), proxy)
	time.Sleep(3 * drainPoll) // a drain that does not wait for the call is over by then
	close(release)
	wg.Wait()
	b := openWhenFree(t, filepath.Join(r.dir, "audit", "buffer"))
	if s := b.Stats(); s.Calls.Recorded != 1 || s.Head != s.Stores["sqlite"].Position || s.Open != 0 {
		t.Errorf("%+v", s)
	}
}

func TestAConfigurationThatCannotOpenItsBufferUsesTheOneInForce(t *testing.T) {
	r := start(t, proxy, ok)
	app := running.current()
	blocked := &App{dir: filepath.Join(r.dir, "blocked"), log: app.log}
	if err := os.MkdirAll(filepath.Join(blocked.dir, "LOCK"), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := blocked.hold()
	if err != nil {
		t.Fatal(err)
	}
	defer s.release()
	if s != app.shared.Load() {
		t.Error("it is another buffer")
	}
}

func TestABufferInADrainCanBeUsedAgain(t *testing.T) {
	r := newRig(t, ok)
	db := filepath.Join(r.dir, "audit", "audit.db")
	if err := os.MkdirAll(db, 0o700); err != nil {
		t.Fatal(err)
	}
	r.load(rigCaddyfile, proxy)
	r.send("POST", project, nil, "")
	elsewhere := strings.NewReplacer("%DIR%/audit/buffer", "%DIR%/elsewhere/buffer", "%STORE%", "%DIR%/elsewhere.db").Replace(rigCaddyfile)
	r.load(elsewhere, proxy)
	r.load(withRules("rule /nothing none"), proxy) // while the drain cannot end
	r.send("POST", project, nil, "")
	if err := os.Remove(db); err != nil {
		t.Fatal(err)
	}
	if s := r.drained(); s.Calls.Recorded != 2 || !s.Conserved {
		t.Errorf("status %s", s.Text())
	}
	if events := r.events(); events[len(events)-1].Action.Code != audit.EventConfigChanged {
		t.Error("another policy came into force, and no event says so")
	}
}

func TestTheConfigurationsWeakPointsAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		caddyfile string
		want      []string // parts of the warnings, in order
	}{
		"a covered site and a filtered log": {
			"{\n log {\n format filter {\n request>uri audit_log\n }\n }\n}\n:1 {\n audit_log\n reverse_proxy 127.0.0.1:2\n}", nil,
		},
		"no filter": {
			":1 {\n audit_log\n reverse_proxy 127.0.0.1:2\n}", []string{"filter audit_log"},
		},
		"credentials in logs": {
			"{\n servers {\n log_credentials\n }\n}\n:1 {\n log\n audit_log\n reverse_proxy 127.0.0.1:2\n}",
			[]string{"filter audit_log", "log_credentials"},
		},
		"another site without": {
			":1 {\n audit_log\n reverse_proxy 127.0.0.1:2\n}\n:3 {\n reverse_proxy 127.0.0.1:2\n}",
			[]string{"filter audit_log", ":3) has 1 route(s) to an upstream that no audit_log covers"},
		},
		"one handle block without": {
			":1 {\n handle /a/* {\n audit_log\n reverse_proxy 127.0.0.1:2\n }\n handle {\n reverse_proxy 127.0.0.1:2\n }\n}",
			[]string{"filter audit_log", "has 1 route(s)"},
		},
		"an error route without": {
			":1 {\n audit_log\n reverse_proxy 127.0.0.1:2\n handle_errors {\n respond sorry 500\n }\n}",
			[]string{"filter audit_log", "error routes without audit_log"},
		},
		"an error route with": {
			":1 {\n audit_log\n reverse_proxy 127.0.0.1:2\n handle_errors {\n audit_log\n respond sorry 500\n }\n}",
			[]string{"filter audit_log"},
		},
		"before handle blocks": {
			":1 {\n audit_log\n handle /a/* {\n reverse_proxy 127.0.0.1:2\n }\n handle {\n reverse_proxy 127.0.0.1:2\n }\n}",
			[]string{"filter audit_log"},
		},
		"a named route": {
			"&(up) {\n reverse_proxy 127.0.0.1:2\n}\n:1 {\n audit_log\n invoke up\n}\n:3 {\n invoke up\n}",
			[]string{"filter audit_log", ":3) has 1 route(s)"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var config caddy.Config
			if err := caddy.StrictUnmarshalJSON(adapt(t, c.caddyfile), &config); err != nil {
				t.Fatal(err)
			}
			var got []string
			sawWarnings = func(w []string) { got = w }
			defer func() { sawWarnings = nil }()
			if err := caddy.Validate(&config); err != nil {
				t.Fatal(err)
			}
			if len(got) != len(c.want) {
				t.Fatalf("warnings %q, want %q", got, c.want)
			}
			for i, want := range c.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("warning %q, want %q in it", got[i], want)
				}
			}
		})
	}
}

func TestManyHoldersOpenAndCloseOneBuffer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "b")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				s, err := buffers.acquire(dir, buffer.Options{})
				if err != nil {
					t.Error(err)
					return
				}
				if err := s.buf.Append([]byte("x")); err != nil {
					t.Error(err)
				}
				s.release()
			}
		})
	}
	wg.Wait()
	s, err := buffers.acquire(dir, buffer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.release()
	if got := s.buf.Stats().Head; got != 160 {
		t.Errorf("head %d, want 160", got)
	}
}

func TestValidatingBesideALiveServerOpensNothing(t *testing.T) {
	r := start(t, proxy, ok)
	r.send("POST", project, nil, "")
	var config caddy.Config
	if err := caddy.StrictUnmarshalJSON(adapt(t, r.expand(rigCaddyfile, proxy)), &config); err != nil {
		t.Fatal(err)
	}
	// One that waited for the lock would wait for ever.
	if err := caddy.Validate(&config); err != nil {
		t.Fatal(err)
	}
	r.send("POST", project, nil, "")
	if n := len(r.buffered()); n != 2 {
		t.Errorf("%d entries, want 2", n)
	}
}

func TestASecondProcessOnTheSameBufferFailsToStart(t *testing.T) {
	r := newRig(t, ok)
	other, err := buffer.Open(filepath.Join(r.dir, "audit", "buffer"), buffer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close(context.Background()) }()
	// One that waited for the lock would wait for ever.
	err = caddy.Load(adapt(t, r.expand(rigCaddyfile, proxy)), true)
	if err == nil || !strings.Contains(err.Error(), "another process is using it") || !strings.Contains(err.Error(), "Caddyfile:14") {
		t.Errorf("got %v", err)
	}
}

func TestCommandsReadTheServerAndThenItsFiles(t *testing.T) {
	r := start(t, proxy, ok)
	for range 5 {
		r.send("POST", project+"/pause", nil, "")
	}
	r.drained()
	file := filepath.Join(r.dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(r.expand(rigCaddyfile, proxy)), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(live bool) {
		t.Helper()
		s := statusOf(t, file)
		if s.Live != live || !s.Conserved || s.Calls.Recorded != 5 || s.Head < 6 {
			t.Errorf("live %v: %s", live, s.Text())
		}
		entries := r.exported("--config", file)
		if len(entries) != 5 || entries[4].Origin.Sequence != 6 {
			t.Errorf("live %v: %d entries exported", live, len(entries))
		}
		for _, n := range []string{"0", "3", "10"} {
			out, _, err := audited(t, "tail", "--config", file, "-n", n)
			if err != nil {
				t.Fatal(err)
			}
			all := s.Stores[0].Delivered
			if live {
				all = s.Head
			}
			want := map[string]int{"0": 0, "3": 3, "10": int(min(10, all))}[n]
			if got := strings.Count(out, "\n"); got != want {
				t.Errorf("live %v: tail -n %s shows %d entries: %s", live, n, got, out)
			}
		}
	}
	check(true)
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := openWhenFree(t, filepath.Join(r.dir, "audit", "buffer")).Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Caddy's admin endpoint outlives caddy.Stop; that of a process does not.
	down := strings.Replace(r.expand(rigCaddyfile, proxy), "admin.sock", "nobody.sock", 1)
	if err := os.WriteFile(file, []byte(down), 0o600); err != nil {
		t.Fatal(err)
	}
	check(false)
	if err := os.WriteFile(file, []byte(r.expand(rigCaddyfile, proxy)), 0o600); err != nil {
		t.Fatal(err)
	}
	r.load(rigCaddyfile, proxy) // after a restart the buffer's old segment may be gone: the store has it
	check(true)
}

func TestFollowingShowsAnEntryAsSoonAsItIsDurable(t *testing.T) {
	r := start(t, proxy, ok)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	body, err := r.ask(ctx, http.MethodGet, operator.TailPath+"?n=0&follow=1", "")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	r.send("DELETE", project+"/functions/hello", nil, "")
	lines := bufio.NewScanner(body)
	if !lines.Scan() {
		t.Fatal(lines.Err())
	}
	if e, err := audit.Decode(lines.Bytes()); err != nil || e.Target.ID != "hello" || e.Origin.Sequence != 2 {
		t.Errorf("%v: entry %s", err, lines.Bytes())
	}
}

func TestAdminRoutesTakeNoOtherMethod(t *testing.T) {
	r := start(t, proxy, ok)
	if _, err := r.ask(t.Context(), http.MethodGet, operator.ExportPath+"?from=yesterday", ""); err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("a bad time: %v", err)
	}
	if _, err := r.ask(t.Context(), http.MethodGet, operator.TailPath+"?n=-1", ""); err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("a bad number: %v", err)
	}
	for _, route := range (Admin{}).Routes() {
		method := "POST"
		if route.Pattern == operator.SearchPath || route.Pattern == operator.PassPath || route.Pattern == operator.ResolvePath || route.Pattern == operator.HoldPath {
			method = "GET" // a search is in a body, and changes nothing either
		}
		req := r.request(method, route.Pattern, nil, "")
		var api caddy.APIError
		if err := route.Handler.ServeHTTP(nopWriter{http.Header{}}, req); !errors.As(err, &api) || api.HTTPStatus != 405 {
			t.Errorf("%s %s: %v", method, route.Pattern, err)
		}
	}
}

type nopWriter struct{ h http.Header }

func (w nopWriter) Header() http.Header       { return w.h }
func (nopWriter) Write(b []byte) (int, error) { return len(b), nil }
func (nopWriter) WriteHeader(int)             {}

func TestTheDemoEndsWithAnEntryOnTheScreen(t *testing.T) {
	for _, name := range []string{"PORT", "BIND", "VIEWER_PORT", "VIEWER_BIND", "PLATFORM_URL", "AUDIT_DEMO_SECRET", "METRICS_PORT", "METRICS_BIND", "PLATFORM", "PLATFORM_API", "TRUSTED_PROXIES", "AUDIT_DIR", "ADMIN_LISTEN"} {
		t.Setenv(name, os.Getenv(name)) // the demo sets them
	}
	t.Setenv("TMPDIR", t.TempDir())
	var out strings.Builder
	cmd := auditCommand("demo")
	cmd.SetOut(&out)
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"token_type": "jwt"`, `"type": "edge_function"`, "calls    holds: 6 seen = 6 recorded", "sqlite   holds"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the screen lacks %q:\n%s", want, out.String())
		}
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "audit-demo-*")); len(left) > 0 {
		t.Errorf("the demo left %v", left)
	}
}
