package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
	"github.com/caddy-audit-log/caddy-audit-log/internal/program"
)

// toxiproxy is the program that breaks the network.
const toxiproxy = "github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0"

// toxic is one way in which a network is bad, as toxiproxy's API has it.
type toxic struct {
	Type       string         `json:"type"`
	Stream     string         `json:"stream"`
	Attributes map[string]int `json:"attributes"`
}

// toxics come one after the other. Both directions have those that break or
// stop everything; latency and slices are on the answers, the bandwidth is that of
// what is written.
var toxics = []toxic{
	{"latency", "downstream", map[string]int{"latency": 200, "jitter": 100}},
	{"reset_peer", "downstream", map[string]int{"timeout": 300}},
	{"bandwidth", "upstream", map[string]int{"rate": 64}},
	{"timeout", "upstream", map[string]int{"timeout": 0}},
	{"slicer", "upstream", map[string]int{"average_size": 512, "size_variation": 256, "delay": 200}},
}

// proxy is a toxiproxy between a build and one of its stores.
type proxy struct {
	addr string
	api  string
	cmd  *exec.Cmd
	log  *os.File
}

// buildToxiproxy builds it, unless there is one to use.
func buildToxiproxy(ctx context.Context, path string) (string, error) {
	if path != "" {
		return filepath.Abs(path)
	}
	path, err := program.Go(ctx, toxiproxy)
	if err != nil {
		err = fmt.Errorf("%w (or name one with -toxiproxy)", err)
	}
	return path, err
}

// startProxy starts one to an address.
func startProxy(ctx context.Context, path, dir, to string) (*proxy, error) {
	free, err := ports.Free(2)
	if err != nil {
		return nil, err
	}
	p := &proxy{
		addr: ports.Address(free[0]),
		api:  "http://" + ports.Address(free[1]),
	}
	if p.log, err = os.Create(filepath.Join(dir, "toxiproxy.log")); err != nil {
		return nil, fmt.Errorf("starting toxiproxy: %w", err)
	}
	p.cmd = exec.CommandContext(ctx, path, "-host", ports.Host, "-port", strconv.Itoa(free[1]))
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting toxiproxy: %w", err), p.log.Close())
	}
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err := p.ask(ctx, http.MethodPost, "/proxies", map[string]any{"name": "store", "listen": p.addr, "upstream": to, "enabled": true})
		if err == nil {
			return p, nil
		}
		if time.Since(began) > readyTimeout {
			p.close()
			return nil, err
		}
	}
}

func (p *proxy) close() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it was killed
	_ = p.log.Close()
}

func (p *proxy) add(ctx context.Context, t toxic) error {
	return p.ask(ctx, http.MethodPost, "/proxies/store/toxics", map[string]any{
		"name": t.Type, "type": t.Type, "stream": t.Stream, "toxicity": 1.0, "attributes": t.Attributes,
	})
}

func (p *proxy) remove(ctx context.Context, t toxic) error {
	return p.ask(ctx, http.MethodDelete, "/proxies/store/toxics/"+t.Type, nil)
}

func (p *proxy) ask(ctx context.Context, method, path string, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.api+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("asking toxiproxy: %w", err)
	}
	defer resp.Body.Close()
	words, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if resp.StatusCode >= 300 {
		return fmt.Errorf("asking toxiproxy: %s %s: %s: %s", method, path, resp.Status, words)
	}
	return nil
}
