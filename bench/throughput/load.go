package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
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

// paths are real operations; the numbers make targets differ as they do in
// life.
var paths = map[string]string{
	"GET":  "/v1/projects/abcdefghijklmnopqrst/functions/function-%d",
	"POST": "/v1/projects/abcdefghijklmnopqrst/functions?slug=function-%d",
}

// warm is the line that the generator prints when measuring starts.
const warm = "warm"

// generate is a closed loop: each connection sends its next request when it
// has read the answer to the last.
func generate(args []string, w io.Writer) error {
	fs := flag.NewFlagSet(roleLoad, flag.ExitOnError)
	addr := fs.String("addr", "", "")
	method := fs.String("method", "GET", "")
	conns := fs.Int("c", 64, "")
	warmup := fs.Duration("warmup", time.Second, "")
	duration := fs.Duration("duration", 5*time.Second, "")
	_ = fs.Parse(args) // exits by itself

	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		m        measured
		total    histogram
		counting atomic.Bool
		end      atomic.Bool
	)
	for i := range *conns {
		wg.Go(func() {
			h, all, err := loop(*addr, *method, i, &counting, &end)
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
	time.Sleep(*warmup)
	fmt.Fprintln(w, warm)
	start := time.Now()
	counting.Store(true)
	time.Sleep(*duration)
	m.Elapsed = time.Since(start)
	counting.Store(false)
	end.Store(true)
	wg.Wait()
	m.Requests, m.P50, m.P99 = total.n, total.quantile(0.5), total.quantile(0.99)
	return json.NewEncoder(w).Encode(m)
}

// loop drives one connection. Its first error ends it: nothing here should
// fail, and a run with errors is not a measurement.
func loop(addr, method string, n int, counting, end *atomic.Bool) (h *histogram, all uint64, err error) {
	h = new(histogram)
	conn, err := rig.Dial(addr)
	if err != nil {
		return h, 0, err
	}
	defer conn.Close()
	body := ""
	if method == "POST" {
		body = `{"name":"function","verify_jwt":true}`
	}
	request := rig.Request(method, fmt.Sprintf(paths[method], n), addr, body,
		"User-Agent: throughput/1",
		"Accept: application/json",
		// As real calls have one; made up.
		"Authorization: Bearer sbp_"+strings.Repeat("0123456789abcdef", 3)[:40])
	for !end.Load() {
		start := time.Now()
		a, err := conn.Do(request, 30*time.Second)
		if err != nil {
			return h, all, err
		}
		if a.Status != http.StatusOK {
			return h, all, fmt.Errorf("an answer of %d: %.200s", a.Status, a.Body)
		}
		all++
		if counting.Load() {
			h.add(time.Since(start))
		}
	}
	return h, all, nil
}

// serveAPI prints its address and serves until its standard input ends, which
// it does at the latest when the parent process is gone.
func serveAPI(args []string) error {
	fs := flag.NewFlagSet(roleAPI, flag.ExitOnError)
	delay := fs.Duration("delay", 0, "")
	_ = fs.Parse(args) // exits by itself
	answer := []byte(`{"id":"0acade00-0000-4000-a000-000000000000","slug":"function","status":"ACTIVE","version":1}`)
	addr, stop, err := rig.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if *delay > 0 {
			time.Sleep(*delay)
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
