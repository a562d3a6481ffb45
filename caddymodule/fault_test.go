package caddymodule

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
)

// slowDisk keeps each commit from ending while it is held, as a disk that hangs
// would. That what is held is the writer and not the disk is all that is not real;
// bench/faultdisk has a filesystem that hangs.
type slowDisk struct {
	mu sync.Mutex
	// held says that a commit waits for mu, or is about to.
	held atomic.Bool
}

func newSlowDisk(t *testing.T) *slowDisk {
	t.Helper()
	d := new(slowDisk)
	onCommit = func(c buffer.Commit) {
		observeCommit(c)
		d.held.Store(true)
		d.mu.Lock()
		d.held.Store(false)
		d.mu.Unlock()
	}
	t.Cleanup(func() { onCommit = observeCommit })
	return d
}

// hungWait is max_wait while the disk hangs. Before and after that it is the rig's, which no
// commit of a busy machine takes.
const hungWait = 150 * time.Millisecond

// hang begins a fault and waits until the buffer admits no call any more.
func (d *slowDisk) hang(t *testing.T) {
	t.Helper()
	d.mu.Lock()
	s := waitsFor(hungWait)
	s.event("test", nil)
	// A commit before it may have been slow by itself.
	await(t, "a fault", func() bool { return d.held.Load() && s.buf.Stats().Slow })
	// The event may have waited for the commit before this one, too. Calls are admitted
	// until this one alone has taken max_wait.
	time.Sleep(hungWait)
}

// heal ends it.
func (d *slowDisk) heal() {
	d.mu.Unlock()
	waitsFor(time.Minute)
}

// waitsFor sets max_wait of the current configuration's buffer.
func waitsFor(d time.Duration) *shared {
	app := running.current()
	s, o := app.shared.Load(), app.options()
	o.MaxWait = d
	s.buf.Configure(o)
	return s
}

func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never came to be: " + what)
		}
	}
}

func faultCaddyfile(onFault string) string {
	return strings.Replace(rigCaddyfile, "max_size 1MiB", "max_size 64MiB\n\t\t\ton_fault "+onFault, 1)
}

// A read changes nothing, so it can be asked for again: nothing of it leaves before
// it is on record.
func TestTheAnswerToAReadThatCannotBeRecordedIsWithheld(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"at once": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Set-Cookie", "session=secret")
			_, _ = io.WriteString(w, "secret")
		},
		"in pieces": func(w http.ResponseWriter, _ *http.Request) {
			for range 5 {
				_, _ = io.WriteString(w, strings.Repeat("secret", 20000))
				_ = http.NewResponseController(w).Flush()
			}
		},
		"an error": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "secret", http.StatusForbidden) },
	} {
		t.Run(name, func(t *testing.T) {
			disk := newSlowDisk(t)
			reached, carryOn := make(chan struct{}), make(chan struct{})
			r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
				close(reached)
				<-carryOn
				answer(w, req)
			})
			r.load(faultCaddyfile("reject"), proxy)
			var resp *http.Response
			var body string
			done := make(chan struct{})
			go func() {
				defer close(done)
				resp, body = r.send("GET", project, nil, "")
			}()
			<-reached
			disk.hang(t)
			close(carryOn)
			<-done
			disk.heal()
			if resp.StatusCode != http.StatusServiceUnavailable || strings.Contains(body, "secret") || resp.Header.Get("Set-Cookie") != "" {
				t.Errorf("%d %v %.100q", resp.StatusCode, resp.Header, body)
			}
			if resp.Header.Get("Content-Type") != "application/problem+json" || resp.Header.Get(auditIDHeader) == "" {
				t.Errorf("headers %v", resp.Header)
			}
			entries := r.calls(2)
			last := entries[len(entries)-1]
			if last.Outcome != audit.OutcomeRefused || last.Action.Status != 503 || last.Action.Metadata["withheld"] == nil || last.ID != resp.Header.Get(auditIDHeader) {
				t.Errorf("%+v %+v", last, last.Action)
			}
			if st := r.status(); !st.Calls.Holds {
				t.Errorf("%+v", st.Calls)
			}
		})
	}
}

// What may have been changed must not be asked for again.
func TestTheTrueAnswerToAChangingCallLeavesAfterMaxWait(t *testing.T) {
	disk := newSlowDisk(t)
	reached, carryOn := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
		close(reached)
		<-carryOn
		w.WriteHeader(http.StatusCreated)
	})
	r.load(faultCaddyfile("reject"), proxy)
	status := make(chan int)
	go func() {
		resp, _ := r.send("POST", project+"/pause", nil, "")
		status <- resp.StatusCode
	}()
	<-reached
	disk.hang(t)
	close(carryOn)
	if got := <-status; got != http.StatusCreated {
		t.Errorf("the client got %d", got)
	}
	disk.heal()
	if e := r.calls(1)[0]; e.Action.Status != http.StatusCreated || e.Outcome != audit.OutcomeSuccess {
		t.Errorf("%+v", e)
	}
}

func TestOnFaultPassLetsCallsThroughAndSaysHowMany(t *testing.T) {
	disk := newSlowDisk(t)
	r := newRig(t, ok)
	r.load(faultCaddyfile("pass"), proxy)
	disk.hang(t)
	const n = 20
	for i := range n {
		if resp, body := r.send([]string{"GET", "POST"}[i%2], project, nil, ""); resp.StatusCode != 200 || body != "ok" || resp.Header.Get(auditIDHeader) != "" {
			t.Fatalf("%d %q %v", resp.StatusCode, body, resp.Header)
		}
	}
	st := r.status()
	if st.PassingSince == nil || st.Calls.Passed != n || !st.Calls.Holds {
		t.Errorf("%+v", st)
	}
	disk.heal()
	var gap *audit.Entry
	await(t, "a gap", func() bool {
		for _, e := range r.events() {
			if e.Action.Code == audit.EventGap {
				gap = e
			}
		}
		return gap != nil
	})
	m := gap.Action.Metadata
	if m["reason"] != "passed" || m["count"] != float64(n) || m["cause"] != "slow" || m["since"] == nil || m["until"] == nil {
		t.Errorf("%v", m)
	}
	if resp, _ := r.send("POST", project, nil, ""); resp.Header.Get(auditIDHeader) == "" {
		t.Error("calls go on passing")
	}
	if st := r.drained(); !st.Conserved {
		t.Errorf("%+v", st)
	}
}

func TestBreakGlassIsOnRecordAndEndsByItself(t *testing.T) {
	disk := newSlowDisk(t)
	r := newRig(t, ok)
	r.load(faultCaddyfile("reject"), proxy)
	disk.hang(t)
	if resp, _ := r.send("POST", project, nil, ""); resp.StatusCode != 503 {
		t.Fatalf("before: %d", resp.StatusCode)
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := r.run(append([]string{"pass"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if said := run("--for", "1m", "--reason", "the volume is read-only"); !strings.Contains(said, "pass until") {
		t.Errorf("it says %q", said)
	}
	if resp, _ := r.send("POST", project, nil, ""); resp.StatusCode != 200 {
		t.Fatalf("while it lasts: %d", resp.StatusCode)
	}
	if st := r.status(); !strings.Contains(st.Text(), "by order") || !strings.Contains(st.Text(), "pass unrecorded since") {
		t.Errorf("the status does not say it: %s", st.Text())
	}
	run("--for", "1s", "--reason", "the volume is read-only")
	await(t, "its end", func() bool { return r.status().PassUntil == nil })
	if resp, _ := r.send("POST", project, nil, ""); resp.StatusCode != 503 {
		t.Fatalf("after its end: %d", resp.StatusCode)
	}
	disk.heal()
	states := map[any]any{}
	await(t, "its entries", func() bool {
		for _, e := range r.events() {
			if e.Action.Code == audit.EventPass {
				states[e.Action.Metadata["state"]] = e.Action.Metadata["reason"]
			}
		}
		return len(states) == 2
	})
	if states["begun"] != "the volume is read-only" {
		t.Errorf("%v", states)
	}
	for _, order := range []string{`{"seconds":-1}`, `{"seconds":1}`, `{"seconds":1e9,"reason":"x"}`, `{"seconds":1,"reason":"x","more":1}`, `[]`} {
		if _, err := r.ask(t.Context(), http.MethodPost, operator.PassPath, order); err == nil || !strings.Contains(err.Error(), "400") {
			t.Errorf("%s: %v", order, err)
		}
	}
}

// A buffer whose server is gone is delivered by another's configuration, under its
// own origin, and a live server may go on beside it.
func TestABufferThatWasLeftBehindIsDelivered(t *testing.T) {
	r := start(t, proxy, ok)
	left := filepath.Join(r.dir, "left", "buffer")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	b, err := buffer.Open(left, new(App).AdoptOptions())
	if err != nil {
		t.Fatal(err)
	}
	const n = 50
	for i := range n {
		e := audit.Event("test", time.UnixMicro(int64(i)), nil)
		e.Policy.Rule = "" // no event, so that it is counted with the calls
		payload, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Append(payload); err != nil {
			t.Fatal(err)
		}
	}
	instance := b.Instance(1)
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	r.send("POST", project, nil, "")
	r.drained()
	caddyfile := filepath.Join(r.dir, "Caddyfile")
	if err := os.WriteFile(caddyfile, []byte(r.expand(rigCaddyfile, proxy)), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(dir string) (string, error) {
		out, _, err := audited(t, "deliver", "--config", caddyfile, dir)
		return out, err
	}
	if out, err := run(left); err != nil || !strings.Contains(out, "50 delivered") {
		t.Fatal(out, err)
	}
	if out, err := run(left); err != nil || !strings.Contains(out, "0 delivered") {
		t.Error("a second time:", out, err)
	}
	if _, err := run(filepath.Join(r.dir, "nowhere")); err == nil {
		t.Error("a directory that is not there is delivered")
	}
	if _, err := os.Stat(filepath.Join(r.dir, "nowhere")); err == nil {
		t.Error("a directory that was not there is made")
	}
	if _, err := run(filepath.Join(r.dir, "audit", "buffer")); err == nil {
		t.Error("the live server's buffer is taken")
	}
	found := 0
	for _, e := range r.exported() {
		if e.Origin.Instance == instance {
			found++
		}
	}
	if found != n {
		t.Errorf("%d entries of it are stored, want %d", found, n)
	}
}

func TestDrainWaitsForTheStores(t *testing.T) {
	r := start(t, proxy, ok)
	for range 5 {
		r.send("POST", project, nil, "")
	}
	if _, err := r.run("drain", "--wait"); err != nil {
		t.Fatal(err)
	}
	if s := r.status(); s.Stores[0].Position.Position < 6 {
		t.Errorf("%+v", s.Stores[0])
	}
	// A store that takes nothing: it ends with its time, and says why.
	broken := start(t, proxy, ok)
	if err := os.WriteFile(filepath.Join(broken.dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	broken.load(strings.Replace(rigCaddyfile, "%STORE%", "%DIR%/file/audit.db", 1), proxy)
	broken.send("POST", project, nil, "")
	if _, err := broken.run("drain"); err == nil || !strings.Contains(err.Error(), "wait") {
		t.Errorf("without --wait: %v", err)
	}
	if _, err := broken.run("drain", "--wait", "--timeout", "1s"); err == nil || !strings.Contains(err.Error(), "failing") {
		t.Errorf("after its time: %v", err)
	}
	broken.load(rigCaddyfile, proxy) // and when it goes back to where it was, it goes on there
	if _, err := broken.run("drain", "--wait"); err != nil {
		t.Error(err)
	}
}

func TestTheBufferCommandsReadWhatAServerLeft(t *testing.T) {
	r := start(t, proxy, ok)
	for range 5 {
		r.send("POST", project, nil, "")
	}
	r.drained()
	dir := filepath.Join(r.dir, "audit", "buffer")
	run := func(args ...string) (string, error) {
		out, messages, err := audited(t, append(append([]string{"buffer"}, args...), dir)...)
		return out + messages, err
	}
	for _, name := range []string{"inspect", "verify", "export", "repair"} {
		if _, err := run(name); err == nil || !strings.Contains(err.Error(), "status") {
			t.Errorf("%s beside a live server: %v", name, err)
		}
	}
	r.stop()
	if out, err := run("inspect"); err != nil || !strings.Contains(out, "closed in order") {
		t.Error(out, err)
	}
	if out, err := run("verify"); err != nil || !strings.Contains(out, "whole") {
		t.Error(out, err)
	}
	if out, err := run("repair", "--write"); err != nil || !strings.Contains(out, "nothing is harmed") {
		t.Error(out, err)
	}
	out, err := run("export")
	if n := strings.Count(out, `"sequence":`); err != nil || n < 6 {
		t.Error(out, n, err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "seg-*.db"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	// All copies of the calls' frames, also those in pages that are free.
	b = bytes.ReplaceAll(b, []byte(`"POST"`), []byte(`"QOST"`))
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run("verify"); err == nil || !strings.Contains(out, "HARMED") {
		t.Error(out, err)
	}
	if out, err := run("export"); err == nil || strings.Count(out, `"sequence":`) != 2 {
		t.Error(out, err)
	}
}

// A stop consumes nothing and waits for nothing that never comes.
func TestAStopEndsAlthoughTheDiskHangs(t *testing.T) {
	disk := newSlowDisk(t)
	r := newRig(t, ok)
	r.load(faultCaddyfile("reject"), proxy)
	r.send("POST", project, nil, "")
	r.drained()
	disk.hang(t)
	stopped := make(chan error, 1)
	go func() { stopped <- caddy.Stop() }()
	select {
	case err := <-stopped:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("it does not end")
	}
	disk.mu.Unlock()
	if err := r.closed(t.Context()); err != nil {
		t.Error(err)
	}
	// What was in hand is there at the next start, under the same lock.
	await(t, "the lock", func() bool {
		st, err := buffer.Inspect(filepath.Join(r.dir, "audit", "buffer"))
		return err == nil && st.Calls.Recorded == 1
	})
}
