package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// flat is how much a server may grow while any amount passes through it.
const flat = 64 << 20

// transfer is one large body on its way through a server.
type transfer struct {
	Server string  `json:"server"`
	Proto  string  `json:"proto"`
	Way    string  `json:"way"`
	Bytes  int64   `json:"bytes"`
	Before int64   `json:"before_bytes"`
	Most   int64   `json:"most_bytes"`
	MBps   float64 `json:"mb_per_second"`
	Flat   bool    `json:"flat"`
}

// transfers sends size bytes down and up over each protocol.
func (s *server) transfers(ctx context.Context, size int64, step func(string)) ([]transfer, error) {
	name := "plain"
	if s.ours {
		name = "audited"
	}
	var all []transfer
	for _, proto := range []string{h1, h2, h3} {
		for _, way := range []string{"answer", "upload"} {
			t := transfer{Server: name, Proto: proto, Way: way, Bytes: size}
			if proto == h3 {
				// Each packet costs a system call there: an eighth takes as long.
				t.Bytes /= 8
			}
			step(fmt.Sprintf("%s of %s over %s, %s", way, human(t.Bytes), proto, name))
			if err := s.transfer(ctx, &t); err != nil {
				return all, fmt.Errorf("sending %d bytes as %s over %s through the %s server: %w", t.Bytes, way, proto, name, err)
			}
			all = append(all, t)
		}
	}
	return all, nil
}

func (s *server) transfer(ctx context.Context, t *transfer) error {
	id := "size-" + t.Way + "-" + t.Proto
	s.api.expect(id, newRun(func(x *exchange) {
		x.over = true
		_ = x.conn.SetDeadline(time.Now().Add(30 * time.Minute))
		if t.Way == "upload" {
			body, _ := x.content()
			if err := drain(body, t.Bytes); err != nil {
				x.answer("500 Broken", err.Error())
				return
			}
			x.answer("200 OK", "whole")
			return
		}
		x.write("HTTP/1.1 200 OK\r\nContent-Length: " + strconv.FormatInt(t.Bytes, 10) + "\r\n\r\n")
		_ = pour(x.conn, t.Bytes) // a failure shows at the client
	}))
	rt, base, closeIdle := s.transport(t.Proto)
	defer closeIdle()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/projects/abcdefghijklmnopqrst/"+id, nil)
	if err != nil {
		return err
	}
	if t.Way == "upload" {
		req.Method, req.ContentLength = http.MethodPost, t.Bytes
		req.Body = io.NopCloser(io.LimitReader(&poured{}, t.Bytes))
	}
	req.Host = host
	req.Header.Set(callField, id)
	if t.Before, err = resident(s.proc.PID); err != nil {
		return err
	}
	w := watch(s.proc.PID)
	start := time.Now()
	err = exchangeWith(rt, req, t)
	t.MBps = float64(t.Bytes) / 1e6 / time.Since(start).Seconds()
	t.Most = max(w.stop(), t.Before)
	t.Flat = t.Most-t.Before <= flat
	return err
}

func exchangeWith(rt http.RoundTripper, req *http.Request, t *transfer) error {
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if t.Way == "answer" && resp.StatusCode == http.StatusOK {
		return drain(resp.Body, t.Bytes)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1000))
	if resp.StatusCode != http.StatusOK || !bytes.Equal(b, []byte("whole")) {
		return fmt.Errorf("the answer was %d %q: %w", resp.StatusCode, b, errors.Join(err, errNotWhole))
	}
	return err
}

var errNotWhole = errors.New("the API did not get it whole")

// transport is a client that can move much; those of the items are for few
// bytes.
func (s *server) transport(proto string) (rt http.RoundTripper, base string, closeIdle func()) {
	if proto == h3 {
		return s.pool.three, "https://" + s.tls, func() {}
	}
	tr := &http.Transport{DisableCompression: true, TLSClientConfig: s.pool.config(), Protocols: new(http.Protocols)}
	if proto == h2 {
		tr.Protocols.SetHTTP2(true)
		return tr, "https://" + s.tls, tr.CloseIdleConnections
	}
	tr.Protocols.SetHTTP1(true)
	return tr, "http://" + s.plain, tr.CloseIdleConnections
}

// watcher samples a process's memory.
type watcher struct {
	end  chan struct{}
	done sync.WaitGroup
	most int64
}

func watch(pid int) *watcher {
	w := &watcher{end: make(chan struct{})}
	w.done.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			if n, err := resident(pid); err == nil {
				w.most = max(w.most, n)
			}
			select {
			case <-w.end:
				return
			case <-tick.C:
			}
		}
	})
	return w
}

// stop returns the most that was seen.
func (w *watcher) stop() int64 {
	close(w.end)
	w.done.Wait()
	return w.most
}

var units = []string{"B", "KiB", "MiB", "GiB"}

// human shows a size.
func human(n int64) string {
	f, i := float64(n), 0
	for ; f >= 1024 && i < len(units)-1; i++ {
		f /= 1024
	}
	return strconv.FormatFloat(f, 'g', 4, 64) + " " + units[i]
}

// parseSize reads 256MiB, 5GiB and the like.
func parseSize(s string) (int64, error) {
	for i, unit := range slices.Backward(units) {
		if v, ok := strings.CutSuffix(s, unit); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 32)
			if err != nil || n < 1 {
				break
			}
			return n << (10 * i), nil
		}
	}
	return 0, fmt.Errorf("reading the size %q: write it as 256MiB or 5GiB", s)
}
