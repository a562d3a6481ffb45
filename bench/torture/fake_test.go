package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/oracle"
)

// fake is a product of a hundred lines with the command line of the real one.
// It shows that a whole run passes when the promise is kept, and fails when
// it is broken in a way that FAKE_FAULT names. It writes to the page cache
// only, which a SIGKILL does not take away.
type fake struct {
	mu    sync.Mutex
	file  *os.File
	head  uint64
	fault string
	n     int
	// loading says that it is being reloaded.
	loading atomic.Bool
}

// record is a line of its log; one without sequence is an intent.
type record map[string]any

// runFake is the fake's main; it never returns.
func runFake(args []string) {
	path := filepath.Join(os.Getenv("AUDIT_DIR"), "log")
	var err error
	switch strings.Join(args[:2], " ") {
	case "run --config":
		err = serveFake(path)
	case "audit status":
		err = statusFake(path)
	case "audit export":
		err = exportFake(path)
	default:
		err = fmt.Errorf("running the fake: unknown command %v", args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// load returns the entries and the open intents of a log.
func load(path string) (entries []record, open map[string]record, err error) {
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, nil, err
	}
	open = map[string]record{}
	for line := range bytes.Lines(b) {
		var r record
		if json.Unmarshal(line, &r) != nil {
			continue // the torn last line of a killed process
		}
		id, _ := r["id"].(string)
		if r["origin"] == nil {
			open[id] = r
			continue
		}
		delete(open, id)
		entries = append(entries, r)
	}
	return entries, open, nil
}

func serveFake(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	entries, open, err := load(path)
	if err != nil {
		return err
	}
	f := &fake{fault: os.Getenv("FAKE_FAULT"), head: uint64(len(entries))}
	if f.file, err = os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	fmt.Fprintln(f.file) // ends a torn line
	for _, r := range open {
		r["outcome"], r["revision"] = "unknown", 0
		f.append(r)
	}
	admin, err := f.admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	srv := &http.Server{Addr: net.JoinHostPort("127.0.0.1", os.Getenv("PORT")), Handler: f, ReadHeaderTimeout: time.Second}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- srv.ListenAndServe() }()
	select {
	case <-stop:
		return srv.Close()
	case err := <-ended:
		return err
	}
}

// admin serves what reloads are asked of.
func (f *fake) admin() (*http.Server, error) {
	socket, _, _ := strings.Cut(strings.TrimPrefix(os.Getenv("ADMIN_LISTEN"), "unix/"), "|")
	if err := os.RemoveAll(socket); err != nil { // a killed process left it
		return nil, err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		f.loading.Store(true)
		time.Sleep(20 * time.Millisecond)
		f.loading.Store(false)
		if f.fault == "no reload" {
			http.Error(w, "no", http.StatusBadRequest)
		}
	})}
	go func() { _ = srv.Serve(l) }()
	return srv, nil
}

func (f *fake) write(r record) {
	b, _ := json.Marshal(r)
	_, _ = f.file.Write(append(b, '\n'))
}

func (f *fake) append(r record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.head++
	r["origin"] = record{"instance": "fake", "sequence": f.head}
	f.write(r)
}

// ServeHTTP keeps the promise: intent, effect, record, answer.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.n++
	n := f.n
	f.mu.Unlock()
	e := f.describe(r)
	if r.Method != "GET" && f.fault != "no intent" {
		f.write(e)
	}
	status, head, body := f.forward(r)
	action, _ := e["action"].(record)
	action["status"], e["revision"], e["outcome"] = status, 1, outcomeOf(status)
	if f.fault == "wrong status" && n%50 == 0 {
		action["status"], e["outcome"] = 200, "success"
	}
	lost := f.fault == "lost" && n%50 == 0 || f.fault == "lost in a reload" && f.loading.Load()
	if !lost {
		if f.fault == "late" {
			defer func() { time.Sleep(20 * time.Millisecond); f.append(e) }()
		} else {
			f.append(e)
		}
	}
	if f.fault == "twice" && n%50 == 0 {
		e["id"] = fmt.Sprint(e["id"], "-again")
		f.append(e)
	}
	for k := range head {
		w.Header().Set(k, head.Get(k))
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
	_ = http.NewResponseController(w).Flush()
}

func (f *fake) forward(r *http.Request) (int, http.Header, []byte) {
	body, _ := io.ReadAll(r.Body)
	out, err := http.NewRequest(r.Method, "http://"+os.Getenv("PLATFORM_API")+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		return 502, nil, nil
	}
	out.Header = r.Header.Clone()
	resp, err := http.DefaultClient.Do(out)
	if err != nil {
		return 502, nil, nil
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, answer
}

// describe finds the kind of a call by trying them all.
func (f *fake) describe(r *http.Request) record {
	id := r.Header.Get(oracle.HeaderID)
	e := record{"id": fmt.Sprintf("entry-%s", id), "timestamp": time.Now().UnixMicro()}
	for _, k := range append([]oracle.Kind{oracle.ReadKind}, oracle.Kinds...) {
		if k.Method == r.Method && k.Path(id) == r.URL.Path {
			e["action"] = record{"method": k.Method, "route": k.Template}
			e["target"] = record{"type": k.Target, "id": id}
			e["project_ref"] = k.Project(id)
		}
	}
	return e
}

func statusFake(path string) error {
	entries, open, err := load(path)
	if err != nil {
		return err
	}
	n := len(entries)
	return json.NewEncoder(os.Stdout).Encode(record{
		"instance": "fake", "head": n, "open_intents": 0, "conserved": true,
		"calls":  record{"seen": n + len(open), "recorded": n, "open": len(open), "holds": true},
		"stores": []record{{"name": "log", "position": n, "delivered": n, "holds": true}},
	})
}

func exportFake(path string) error {
	entries, _, err := load(path)
	for _, e := range entries {
		err = json.NewEncoder(os.Stdout).Encode(e)
	}
	return err
}

func outcomeOf(status int) string {
	switch {
	case status < 400:
		return "success"
	case status == 401, status == 403:
		return "denied"
	}
	return "failure"
}
