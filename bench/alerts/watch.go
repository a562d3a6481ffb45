//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
	"github.com/caddy-audit-log/caddy-audit-log/internal/promtest"
)

// scrapeEvery is long enough for a busy machine, and evaluateEvery short enough for a trial.
const (
	scrapeEvery   = 2 * time.Second
	evaluateEvery = time.Second
	// upWithin is what a server may take to start.
	upWithin = 30 * time.Second
	// job is what the rules look for.
	job = "caddy-audit-log"
)

// watch is a Prometheus that scrapes the builds and evaluates the rules, a second one that
// stores native histograms, and an Alertmanager, which tells this program.
type watch struct {
	programs *promtest.Programs
	dir      string
	// prometheus and native are the addresses of the two.
	prometheus, native string

	processes []*exec.Cmd
	stopHook  func()

	mu     sync.Mutex
	told   map[subject]map[string]bool // what fires, by its labels: two stores may at a time
	wrong  []string                    // annotations that are not what they should be
	notice chan struct{}
}

// subject is an alert about a site; an empty site is about all of them.
type subject struct{ alert, site string }

// newWatch starts the servers. targets are those of the job, by site.
func newWatch(ctx context.Context, dir string, rules []byte, targets map[string]string) (w *watch, err error) {
	w = &watch{dir: dir, told: map[subject]map[string]bool{}, notice: make(chan struct{})}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.programs, err = promtest.Find(ctx); err != nil {
		return w, err
	}
	hook, stop, err := rig.Serve(http.HandlerFunc(w.hear))
	if err != nil {
		return w, err
	}
	w.stopHook = stop
	free, err := ports.Free(3)
	if err != nil {
		return w, err
	}
	addr := func(i int) string { return ports.Address(free[i]) }
	w.prometheus, w.native = addr(0), addr(2)
	if err := errors.Join(
		w.write("rules.yml", string(rules)),
		w.write("alertmanager.yml", fmt.Sprintf(alertmanagerConfig, hook)),
		w.write("prometheus.yml", fmt.Sprintf(prometheusConfig, inSeconds(scrapeEvery), inSeconds(scrapeEvery), inSeconds(evaluateEvery), addr(1), job, filepath.Join(dir, "targets.json"))),
		w.write("native.yml", fmt.Sprintf(prometheusConfig, inSeconds(scrapeEvery), inSeconds(scrapeEvery), inSeconds(evaluateEvery), "127.0.0.1:1", job, filepath.Join(dir, "targets.json"))),
		w.targets(targets),
	); err != nil {
		return w, err
	}
	prometheus := func(config, data, addr string, more ...string) *exec.Cmd {
		args := append([]string{"--config.file=" + config, "--storage.tsdb.path=" + data, "--web.listen-address=" + addr}, more...)
		return exec.CommandContext(ctx, w.programs.Prometheus, args...)
	}
	for _, s := range []struct {
		name, addr string
		cmd        *exec.Cmd
	}{
		{"alertmanager", addr(1), w.programs.AlertmanagerCommand(ctx, "--config.file=alertmanager.yml", "--storage.path=alertmanager", "--web.listen-address="+addr(1), "--cluster.listen-address=")},
		{"prometheus", w.prometheus, prometheus("prometheus.yml", "prometheus", w.prometheus)},
		{"native", w.native, prometheus("native.yml", "native", w.native, "--enable-feature=native-histograms")},
	} {
		if err := w.start(ctx, s.name, s.addr, s.cmd); err != nil {
			return w, err
		}
	}
	return w, nil
}

const alertmanagerConfig = `route:
  receiver: trial
  group_by: ["..."]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: trial
    webhook_configs:
      - url: http://%s/
        send_resolved: true
`

const prometheusConfig = `global:
  scrape_interval: %s
  scrape_timeout: %s
  evaluation_interval: %s
alerting:
  alertmanagers:
    - static_configs: [{targets: ["%s"]}]
rule_files: [rules.yml]
scrape_configs:
  - job_name: %s
    file_sd_configs:
      - files: ["%s"]
        refresh_interval: 1s
`

func (w *watch) write(name, text string) error {
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		return fmt.Errorf("writing the configuration of the watch: %w", err)
	}
	return nil
}

// targets says what the job is about from now on. A target's label "site" is its name here,
// so that a rule which loses a target's labels shows.
func (w *watch) targets(sites map[string]string) error {
	type group struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	groups := []group{}
	for site, addr := range sites {
		groups = append(groups, group{[]string{addr}, map[string]string{"site": site}})
	}
	b, err := json.Marshal(groups)
	if err != nil {
		return err
	}
	// Whole or not at all.
	if err := w.write("targets.tmp", string(b)); err != nil {
		return err
	}
	return os.Rename(filepath.Join(w.dir, "targets.tmp"), filepath.Join(w.dir, "targets.json"))
}

func (w *watch) start(ctx context.Context, name, addr string, cmd *exec.Cmd) error {
	log, err := os.Create(filepath.Join(w.dir, name+".log"))
	if err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	defer log.Close() // the child has its own descriptor
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	w.processes = append(w.processes, cmd)
	for end := time.Now().Add(upWithin); ; time.Sleep(50 * time.Millisecond) {
		if status, _, err := get(ctx, "http://"+addr+"/-/ready"); err == nil && status == http.StatusOK {
			return nil
		}
		if ctx.Err() != nil || time.Now().After(end) {
			words, _ := os.ReadFile(log.Name())
			return fmt.Errorf("starting %s: it is not ready after %s: %s", name, upWithin, words[max(0, len(words)-2000):])
		}
	}
}

func (w *watch) close() {
	for _, p := range w.processes {
		_ = p.Process.Kill() // it may have ended
		_ = p.Wait()
	}
	if w.stopHook != nil {
		w.stopHook()
	}
}

func get(ctx context.Context, address string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

// hear takes what the Alertmanager tells.
func (w *watch) hear(rw http.ResponseWriter, r *http.Request) {
	var message struct {
		Alerts []struct {
			Status      string            `json:"status"`
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
			Fingerprint string            `json:"fingerprint"`
		} `json:"alerts"`
	}
	if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range message.Alerts {
		s := subject{a.Labels["alertname"], a.Labels["site"]}
		if w.told[s] == nil {
			w.told[s] = map[string]bool{}
		}
		if a.Status == "firing" {
			w.told[s][a.Fingerprint] = true
		} else {
			delete(w.told[s], a.Fingerprint)
		}
		for name, text := range a.Annotations {
			if strings.Contains(text, "<no value>") || strings.Contains(text, "<error") || strings.Contains(text, "{{") || text == "" {
				w.wrong = append(w.wrong, fmt.Sprintf("%s: %s: %s", s.alert, name, text))
			}
		}
	}
	close(w.notice)
	w.notice = make(chan struct{})
}

// await waits until the Alertmanager has told that an alert fires, or that it does no
// longer.
func (w *watch) await(ctx context.Context, s subject, firing bool, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		w.mu.Lock()
		is, notice := len(w.told[s]) > 0, w.notice
		w.mu.Unlock()
		if is == firing {
			return nil
		}
		select {
		case <-notice:
		case <-ctx.Done():
			if firing {
				return fmt.Errorf("%s did not fire within %s", s.alert, within)
			}
			return fmt.Errorf("%s did not end within %s", s.alert, within)
		}
	}
}

// all are the subjects that were told of, in order.
func (w *watch) all() []subject {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []subject
	for s := range w.told {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b subject) int { return strings.Compare(a.alert+" "+a.site, b.alert+" "+b.site) })
	return all
}

// query evaluates an expression at a time, and returns how many series it has.
func (w *watch) query(ctx context.Context, addr, expr string, at time.Time) (int, error) {
	v := url.Values{"query": {expr}, "time": {strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64)}}
	_, body, err := get(ctx, "http://"+addr+"/api/v1/query?"+v.Encode())
	if err != nil {
		return 0, fmt.Errorf("asking Prometheus %s: %w", expr, err)
	}
	return series(expr, body)
}

// queryRange evaluates an expression over a time, and returns how many series it has.
func (w *watch) queryRange(ctx context.Context, addr, expr string, from, to time.Time) (int, error) {
	v := url.Values{
		"query": {expr}, "start": {strconv.FormatInt(from.Unix(), 10)}, "end": {strconv.FormatInt(to.Unix(), 10)}, "step": {"2"},
	}
	_, body, err := get(ctx, "http://"+addr+"/api/v1/query_range?"+v.Encode())
	if err != nil {
		return 0, fmt.Errorf("asking Prometheus %s: %w", expr, err)
	}
	return series(expr, body)
}

func series(expr string, body []byte) (int, error) {
	var answer struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   struct {
			Result []json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, fmt.Errorf("asking Prometheus %s: %w: %.200s", expr, err, body)
	}
	if answer.Status != "success" {
		return 0, fmt.Errorf("asking Prometheus %s: %s", expr, answer.Error)
	}
	return len(answer.Data.Result), nil
}
