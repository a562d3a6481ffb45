package main

import (
	"bytes"
	"encoding/json"
	"fmt"
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

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/fake"
)

// lostInReload is a fault: calls that end in a reload are not recorded.
const lostInReload = "lost in a reload"

// product is one of a hundred lines with the command line of the real one.
// It shows that a whole run passes when the promise is kept, and fails when
// it is broken in a way that FAKE_FAULT names. It writes to the page cache
// only, which a SIGKILL does not take away.
type product struct {
	mu    sync.Mutex
	file  *os.File
	head  uint64
	fault string
	n     int
	// loading says that it is being reloaded.
	loading atomic.Bool
	// stuck says that a call of this life never ends.
	stuck atomic.Bool
	// lostRead and lostWrite say that a call of that kind was answered
	// without its record.
	lostRead, lostWrite atomic.Bool
}

// record is a line of its log; one without sequence is an intent.
type record = fake.Record

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
	f := &product{fault: os.Getenv("FAKE_FAULT"), head: uint64(len(entries))}
	if f.file, err = os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	fmt.Fprintln(f.file) // ends a torn line
	for _, r := range open {
		r["outcome"], r["revision"] = "unknown", 0
		f.append(r)
	}
	admin, err := fake.Admin(http.HandlerFunc(f.reload))
	if err != nil {
		return err
	}
	defer admin.Close()
	srv := &http.Server{Addr: net.JoinHostPort("127.0.0.1", os.Getenv("PORT")), Handler: f, ReadHeaderTimeout: time.Minute}
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

// reload takes any configuration. One that loses calls lasts until it has lost
// a read and a write, however few come on a busy machine.
func (f *product) reload(w http.ResponseWriter, _ *http.Request) {
	f.loading.Store(true)
	for began := time.Now(); time.Since(began) < 5*time.Second; {
		time.Sleep(20 * time.Millisecond)
		if f.fault != lostInReload || f.lostRead.Load() && f.lostWrite.Load() {
			break
		}
	}
	f.loading.Store(false)
	if f.fault == "no reload" {
		http.Error(w, "no", http.StatusBadRequest)
	}
}

func (f *product) write(r record) {
	b, _ := json.Marshal(r)
	_, _ = f.file.Write(append(b, '\n'))
}

func (f *product) append(r record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.head++
	r["origin"] = record{"instance": "fake", "sequence": f.head}
	f.write(r)
}

// ServeHTTP keeps the promise: intent, effect, record, answer.
func (f *product) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.n++
	n := f.n
	f.mu.Unlock()
	e := fake.Describe(r)
	if r.Method != "GET" && f.fault != "no intent" {
		f.write(e)
	}
	status, head, body := fake.Forward(r)
	if r.Method != http.MethodGet && n >= 20 && f.stuck.CompareAndSwap(false, true) {
		select {} // so that each kill finds one call open
	}
	e.Finish(status)
	if f.fault == "wrong status" && n%10 == 0 {
		e.Finish(200)
	}
	lost := f.fault == "lost" && n%10 == 0 || f.fault == lostInReload && f.loading.Load()
	if !lost {
		if f.fault == "late" {
			defer func() { time.Sleep(300 * time.Millisecond); f.append(e) }()
		} else {
			f.append(e)
		}
	}
	if f.fault == "twice" && n%10 == 0 {
		e["id"] = fmt.Sprint(e["id"], "-again")
		f.append(e)
	}
	fake.Answer(w, status, head, body)
	if lost && r.Method == http.MethodGet {
		f.lostRead.Store(true)
	} else if lost {
		f.lostWrite.Store(true)
	}
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
