//go:build unix

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// The load generator and the stub API are this program again, in processes of
// their own, so that neither shares a runtime with what is measured or with
// each other.
const (
	roleLoad = "load-generator"
	roleAPI  = "stub-api"
)

// helper plays a role if the arguments ask for one.
func helper(args []string) (played bool, err error) {
	if len(args) == 0 {
		return false, nil
	}
	switch args[0] {
	case roleLoad:
		return true, generate(args[1:], os.Stdout)
	case roleAPI:
		return true, serveAPI(args[1:])
	}
	return false, nil
}

// measured is what the load generator prints.
type measured struct {
	Requests uint64        `json:"requests"` // in the measured time
	All      uint64        `json:"all"`      // with those that warmed up
	Elapsed  time.Duration `json:"elapsed"`
	P50      time.Duration `json:"p50"`
	P99      time.Duration `json:"p99"`
	Error    string        `json:"error,omitempty"` // the first one
	Errors   uint64        `json:"errors"`
}

// delayHeader asks the stub API to take a time.
const delayHeader = "Delay"

// perConnection is how many calls at a time share one connection of HTTP/2.
const perConnection = 16

// warm is the line that the generator prints when measuring starts.
const warm = "warm"

// load is what the generator is told.
type load struct {
	Addr string
	// Calls are in flight at a time, each on a connection of its own with HTTP/1.1.
	Calls int
	// Rate is how many calls a second are made, whatever became of those before; zero is
	// as many as there can be. A call's time counts from when it was due.
	Rate float64
	H2   bool
	// Delay is what the API takes.
	Delay, Warmup, Duration time.Duration
	// Target is the path, and Body, if there is one, makes it a POST.
	Target, Body, Type string
}

func (l *load) args() []string {
	b, _ := json.Marshal(l) // numbers and texts always encode
	return []string{roleLoad, string(b)}
}

func generate(args []string, w io.Writer) error {
	var l load
	if err := json.Unmarshal([]byte(args[0]), &l); err != nil {
		return err
	}
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		m        measured
		total    histogram
		counting atomic.Bool
		end      atomic.Bool
		clients  []*http.Client
	)
	for range (l.Calls + perConnection - 1) / perConnection {
		clients = append(clients, h2Client())
	}
	for i := range l.Calls {
		wg.Go(func() {
			h, all, err := l.loop(i, clients[i/perConnection], &counting, &end)
			mu.Lock()
			defer mu.Unlock()
			total.merge(h)
			m.All += all
			if err != nil {
				if m.Errors++; m.Error == "" {
					m.Error = err.Error()
				}
			}
		})
	}
	time.Sleep(l.Warmup)
	fmt.Fprintln(w, warm)
	start := time.Now()
	counting.Store(true)
	time.Sleep(l.Duration)
	m.Elapsed = time.Since(start)
	counting.Store(false)
	end.Store(true)
	wg.Wait()
	m.Requests, m.P50, m.P99 = total.n, total.quantile(0.5), total.quantile(0.99)
	return json.NewEncoder(w).Encode(m)
}

// loop makes one call after the other. Its first error ends it: nothing here should
// fail, and a run with errors is not a measurement.
func (l *load) loop(n int, h2 *http.Client, counting, end *atomic.Bool) (h *histogram, all uint64, err error) {
	h = new(histogram)
	do, hangUp, err := l.caller(n, h2)
	if err != nil {
		return h, 0, err
	}
	defer hangUp()
	interval := time.Duration(0)
	if l.Rate > 0 {
		interval = time.Duration(float64(l.Calls) / l.Rate * float64(time.Second))
	}
	due := time.Now()
	if interval > 0 {
		due = due.Add(rand.N(interval))
	}
	for !end.Load() {
		if interval > 0 {
			time.Sleep(time.Until(due))
		} else {
			due = time.Now()
		}
		status, err := do()
		if err != nil {
			return h, all, err
		}
		if status != http.StatusOK {
			return h, all, fmt.Errorf("an answer of %d", status)
		}
		all++
		if counting.Load() {
			h.add(time.Since(due))
		}
		due = due.Add(interval)
	}
	return h, all, nil
}

// made-up, as real calls have one.
var credential = "Bearer sbp_" + strings.Repeat("0123456789abcdef", 3)[:40]

// caller is what makes one call.
func (l *load) caller(n int, h2 *http.Client) (do func() (status int, err error), hangUp func(), err error) {
	target, method := l.Target, http.MethodGet
	if target == "" {
		// A real operation; the number makes targets differ as they do in life.
		target = fmt.Sprintf("/v1/projects/abcdefghijklmnopqrst/functions/function-%d", n)
	}
	if l.Body != "" {
		method = http.MethodPost
	}
	header := map[string]string{"User-Agent": "speed/1", "Accept": "application/json", "Authorization": credential}
	if l.Type != "" {
		header["Content-Type"] = l.Type
	}
	if l.Delay > 0 {
		header[delayHeader] = l.Delay.String()
	}
	if !l.H2 {
		conn, err := rig.Dial(l.Addr)
		if err != nil {
			return nil, nil, err
		}
		var lines []string
		for name, value := range header {
			lines = append(lines, name+": "+value)
		}
		request := rig.Request(method, target, l.Addr, l.Body, lines...)
		return func() (int, error) {
			a, err := conn.Do(request, 30*time.Second)
			return a.Status, err
		}, conn.Close, nil
	}
	return func() (int, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, method, "http://"+l.Addr+target, strings.NewReader(l.Body))
		if err != nil {
			return 0, err
		}
		for name, value := range header {
			r.Header.Set(name, value)
		}
		a, err := h2.Do(r)
		if err != nil {
			return 0, err
		}
		defer a.Body.Close()
		_, err = io.Copy(io.Discard, a.Body)
		return a.StatusCode, err
	}, func() {}, nil
}

// h2Client has one connection.
func h2Client() *http.Client {
	t := &http.Transport{Protocols: new(http.Protocols)}
	t.Protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: t}
}

// serveAPI prints its address and serves until its standard input ends, which
// it does at the latest when the parent process is gone.
func serveAPI(args []string) error {
	fs := flag.NewFlagSet(roleAPI, flag.ExitOnError)
	_ = fs.Parse(args) // exits by itself
	answer := []byte(`{"id":"0acade00-0000-4000-a000-000000000000","slug":"function","status":"ACTIVE","version":1}`)
	addr, stop, err := rig.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d, err := time.ParseDuration(r.Header.Get(delayHeader)); err == nil {
			time.Sleep(d)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	}))
	if err != nil {
		return err
	}
	defer stop()
	fmt.Println(addr)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}
