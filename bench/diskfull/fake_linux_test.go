package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/fake"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// product is one of a hundred lines with the command line of the real one. It
// shows that a whole run passes when the promise is kept, and fails when it is
// broken in a way that FAKE_FAULT names. What it has written to its log on the
// small disk it also keeps in memory, which stands for a store.
type product struct {
	mode, fault string

	mu      sync.Mutex
	log     *os.File
	written int64
	stored  []fake.Record
	head    uint64
	calls   map[string]uint64
	gap     struct {
		n            uint64
		since, until time.Time
	}
}

// patience is how long an answer waits for its record.
const patience = 500 * time.Millisecond

// runFake is the fake's main; it never returns.
func runFake(args []string) {
	// What it tells when it is over, in the place of files.
	dir := os.Getenv("AUDIT_DIR")
	var err error
	switch strings.Join(args[:2], " ") {
	case "run --config":
		err = serveFake(dir, args[2])
	case "audit status", "audit export":
		err = tell(dir, args[1])
	default:
		err = fmt.Errorf("running the fake: unknown command %v", args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// tell asks the running fake, or reads what it left.
func tell(dir, what string) error {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", fake.Socket())
	}}}
	if resp, err := client.Get("http://fake/" + what); err == nil {
		defer resp.Body.Close()
		_, err := io.Copy(os.Stdout, resp.Body)
		return err
	}
	b, err := os.ReadFile(filepath.Join(dir, what))
	if err == nil {
		_, err = os.Stdout.Write(b)
	}
	return err
}

func serveFake(dir, config string) error {
	b, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	setting := func(name string) string {
		return string(regexp.MustCompile(`(?m)^\s*` + name + ` (\S+)`).FindSubmatch(b)[1])
	}
	p := &product{mode: setting("on_fault"), fault: os.Getenv("FAKE_FAULT"), calls: map[string]uint64{}}
	for _, d := range []string{dir, setting("buffer")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	if err := p.remember(dir); err != nil {
		return err
	}
	if p.log, err = os.Create(filepath.Join(setting("buffer"), "log")); err != nil {
		return err
	}
	admin, err := fake.Admin(http.HandlerFunc(p.admin))
	if err != nil {
		return err
	}
	srv := &http.Server{Addr: net.JoinHostPort("127.0.0.1", os.Getenv("PORT")), Handler: p, ReadHeaderTimeout: time.Minute}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- srv.ListenAndServe() }()
	select {
	case <-stop:
	case err := <-ended:
		return err
	}
	for _, what := range []string{"status", "export"} {
		if err := os.WriteFile(filepath.Join(dir, what), p.answer(what), 0o600); err != nil {
			return err
		}
	}
	return admin.Close()
}

// remember takes up what an earlier life has told when it was over.
func (p *product) remember(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "status"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var st rig.Status
	if err := json.Unmarshal(b, &st); err != nil {
		return err
	}
	p.head = st.Head
	p.calls = map[string]uint64{"seen": st.Calls.Seen, "recorded": st.Calls.Recorded, "refused": st.Calls.Refused, "passed": st.Calls.Passed}
	if b, err = os.ReadFile(filepath.Join(dir, "export")); err != nil {
		return err
	}
	for line := range bytes.Lines(b) {
		var r fake.Record
		if err := json.Unmarshal(line, &r); err != nil {
			return err
		}
		p.stored = append(p.stored, r)
	}
	return nil
}

func (p *product) admin(w http.ResponseWriter, r *http.Request) {
	_, _ = w.Write(p.answer(r.URL.Path[1:]))
}

func (p *product) answer(what string) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if what == "export" {
		var b []byte
		for _, e := range p.stored {
			line, _ := json.Marshal(e)
			b = append(append(b, line...), '\n')
		}
		return b
	}
	c := p.calls
	b, _ := json.Marshal(fake.Record{
		"instance": "fake", "head": p.head, "conserved": true, "stores": []fake.Record{{"name": "memory", "position": p.head, "delivered": p.head}},
		"calls": fake.Record{
			"seen": c["seen"], "recorded": c["recorded"], "refused": c["refused"], "passed": c["passed"],
			"open": c["seen"] - c["recorded"] - c["refused"] - c["passed"],
		},
	})
	return b
}

func (p *product) count(term string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[term]++
}

// write adds a line to the log, or leaves it as it was. What was written
// before it fails is cut off again.
func (p *product) write(r fake.Record) error {
	line, _ := json.Marshal(r)
	// Some more, so that what becomes free is not enough for long.
	line = append(line, strings.Repeat(" ", 1000)+"\n"...)
	if _, err := p.log.WriteAt(line, p.written); err != nil {
		_ = p.log.Truncate(p.written)
		return err
	}
	p.written += int64(len(line))
	return nil
}

func (p *product) intent(e fake.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault == "never again" && p.calls["refused"] > 0 {
		return syscall.ENOSPC
	}
	return p.write(e)
}

// outcome makes an entry durable; the first after passed calls tells of them.
func (p *product) outcome(e fake.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.write(e); err != nil {
		return err
	}
	p.calls["recorded"]++
	p.store(e)
	if p.fault == "stored twice" && p.calls["refused"]+p.calls["passed"] == 0 && p.head%100 == 1 {
		e["id"] = fmt.Sprint(e["id"], "-again")
		p.calls["seen"]++
		p.calls["recorded"]++
		p.store(e)
	}
	if p.gap.n == 0 {
		return nil
	}
	n := p.gap.n
	if p.fault == "counts too few" {
		n--
	}
	p.store(fake.Record{"id": fmt.Sprint("gap-", p.head), "revision": 1, "action": fake.Record{
		"code": "audit.gap",
		"metadata": fake.Record{
			"reason": "passed", "cause": "full", "count": n,
			"since": p.gap.since.Format(time.RFC3339Nano), "until": p.gap.until.Format(time.RFC3339Nano),
		},
	}})
	p.gap.n = 0
	return nil
}

func (p *product) store(e fake.Record) {
	stored := maps.Clone(e)
	p.head++
	stored["origin"] = fake.Record{"instance": "fake", "sequence": p.head}
	p.stored = append(p.stored, stored)
}

// ServeHTTP keeps the promise: intent, effect, record, answer.
func (p *product) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	arrived := time.Now()
	p.count("seen")
	e := fake.Describe(r)
	if p.intent(e) != nil {
		p.withoutRoom(w, r, arrived)
		return
	}
	status, head, body := fake.Forward(r)
	e.Finish(status)
	const pause = 20 * time.Millisecond
	for began := time.Now(); p.outcome(e) != nil; time.Sleep(pause) {
		if time.Since(began) < patience {
			continue
		}
		withheld := p.mode == reject && (r.Method == http.MethodGet || p.fault == "withholds what was done")
		if withheld {
			e.Finish(http.StatusServiceUnavailable)
			e["outcome"] = "refused"
			if action, ok := e["action"].(fake.Record); ok && p.fault != "hides what it withheld" {
				action["metadata"] = fake.Record{"withheld": status}
			}
		}
		if p.fault == "late ones are lost" {
			p.count("recorded")
		} else {
			go func() {
				for p.outcome(e) != nil {
					time.Sleep(pause)
				}
			}()
		}
		if withheld {
			refuse(w)
			return
		}
		break
	}
	fake.Answer(w, status, head, body)
}

func (p *product) withoutRoom(w http.ResponseWriter, r *http.Request, arrived time.Time) {
	if p.mode == pass {
		status, head, body := fake.Forward(r)
		p.mu.Lock()
		p.calls["passed"]++
		if p.gap.n == 0 || arrived.Before(p.gap.since) {
			p.gap.since = arrived
		}
		p.gap.n++
		p.gap.until = time.Now()
		p.mu.Unlock()
		fake.Answer(w, status, head, body)
		return
	}
	if p.fault == "refuses what was done" {
		fake.Forward(r)
	}
	p.count("refused")
	if p.fault == "miscounts" {
		p.count("seen")
		p.count("refused")
	}
	refuse(w)
}

func refuse(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(http.StatusServiceUnavailable)
}
