//go:build unix

// Package otelcol builds and runs the real OpenTelemetry Collector for tests and for
// bench: on a free port of the loopback interface, with a configuration of theirs. It can
// be killed and started again.
package otelcol

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
	"github.com/caddy-audit-log/caddy-audit-log/internal/program"
)

// version is the Collector's.
const version = "v0.125.0"

// parts are what the Collector is built of. The debug exporter keeps nothing, so that it
// is the one against which forgetting can be shown.
const parts = `dist:
  name: otelcol
  output_path: out
receivers:
  - gomod: go.opentelemetry.io/collector/receiver/otlpreceiver v0.125.0
exporters:
  - gomod: go.opentelemetry.io/collector/exporter/otlphttpexporter v0.125.0
  - gomod: go.opentelemetry.io/collector/exporter/debugexporter v0.125.0
extensions:
  - gomod: github.com/open-telemetry/opentelemetry-collector-contrib/extension/storage/filestorage v0.125.0
providers:
  - gomod: go.opentelemetry.io/collector/confmap/provider/envprovider v1.31.0
  - gomod: go.opentelemetry.io/collector/confmap/provider/fileprovider v1.31.0
  - gomod: go.opentelemetry.io/collector/confmap/provider/yamlprovider v1.31.0
`

// Program builds the Collector, once, and returns its file. The first time takes minutes.
func Program(ctx context.Context) (string, error) {
	return program.Cached(ctx, "otelcol@"+version, func(ctx context.Context, dir string) (string, error) {
		builder, err := program.Go(ctx, "go.opentelemetry.io/collector/cmd/builder@"+version)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, "builder.yaml"), []byte(parts), 0o600); err != nil {
			return "", err
		}
		cmd := exec.CommandContext(ctx, builder, "--config", "builder.yaml") //nolint:gosec // the program that was just built
		cmd.Dir = dir                                                        // outside of the module
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod -trimpath", "GOWORK=off", "GOOS=", "GOARCH=")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w: %s", err, out)
		}
		return filepath.Join(dir, "out", "otelcol"), nil
	})
}

// readyWithin is how long a Collector may take to answer.
const readyWithin = 60 * time.Second

// pause is that between two looks at it.
const pause = 20 * time.Millisecond

// Collector is one. Its methods must not be called at the same time.
type Collector struct {
	// Endpoint is the base URL of its OTLP receiver for HTTP. It stays the same over
	// restarts.
	Endpoint string

	program, config, log string
	pid                  int // zero while it is down
}

// Queue is what the Collector's exporter keeps what it has acknowledged in.
type Queue int

// The queues.
const (
	// QueueNone acknowledges what the next receiver has acknowledged.
	QueueNone Queue = iota
	// QueueMemory is what the Collector does unless told otherwise.
	QueueMemory
	// QueueFile is a file that is synced.
	QueueFile
)

// exporter is the part of the configuration that each queue is.
var exporter = map[Queue]string{
	QueueNone: `    sending_queue:
      enabled: false
    retry_on_failure:
      enabled: false
`,
	QueueMemory: `    sending_queue:
      num_consumers: 1
    retry_on_failure:
      initial_interval: 100ms
      max_interval: 1s
      max_elapsed_time: 0
`,
	QueueFile: `    sending_queue:
      storage: file_storage
      num_consumers: 1 # keeps the order
      queue_size: 10_000_000 # what it has room for is not asked here
    retry_on_failure:
      initial_interval: 100ms
      max_interval: 1s
      max_elapsed_time: 0
`,
}

// Start runs a Collector whose receiver for HTTP listens on a free port and that sends
// what it takes on to the receiver at the base URL to. It keeps its files in dir. The
// caller closes it.
func Start(ctx context.Context, dir, to string, queue Queue) (*Collector, error) {
	c := &Collector{config: filepath.Join(dir, "collector.yaml"), log: filepath.Join(dir, "collector.log")}
	var err error
	if c.program, err = Program(ctx); err != nil {
		return nil, err
	}
	free, err := ports.Addresses(1)
	if err != nil {
		return nil, err
	}
	address := free[0]
	c.Endpoint = "http://" + address
	config := fmt.Sprintf(`extensions:
  file_storage:
    directory: %s
    create_directory: true
    fsync: true
receivers:
  otlp:
    protocols:
      http:
        endpoint: %s
exporters:
  otlphttp:
    endpoint: %s
%sservice:
  extensions: [file_storage]
  telemetry:
    metrics:
      level: none
  pipelines:
    logs:
      receivers: [otlp]
      exporters: [otlphttp]
`, filepath.Join(dir, "queue"), address, to, exporter[queue])
	if err := os.WriteFile(c.config, []byte(config), 0o600); err != nil {
		return nil, err
	}
	if err := c.Up(); err != nil {
		return nil, errors.Join(err, c.Kill())
	}
	return c, nil
}

// Up starts the Collector again and returns when it answers.
func (c *Collector) Up() error {
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	// No goroutine waits for its end: a test may count them.
	p, err := os.StartProcess(c.program, []string{c.program, "--config", c.config}, &os.ProcAttr{
		Env: []string{"PATH=" + os.Getenv("PATH")}, Files: []*os.File{nil, log, log},
	})
	if err != nil {
		return fmt.Errorf("starting the Collector: %w", err)
	}
	c.pid = p.Pid
	if err := p.Release(); err != nil {
		return err
	}
	for deadline := time.Now().Add(readyWithin); ; time.Sleep(pause) {
		if c.answers() {
			return nil
		}
		if c.ended() || time.Now().After(deadline) {
			return fmt.Errorf("starting the Collector: it does not answer: %s", c.LastWords())
		}
	}
}

// answers reports whether its receiver takes requests.
func (c *Collector) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Endpoint+"/v1/logs", http.NoBody)
	if err != nil {
		return false
	}
	t := &http.Transport{DisableKeepAlives: true}
	answer, err := t.RoundTrip(r)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<10))
	answer.Body.Close()
	return err == nil
}

// ended reports whether it is down, and takes note of its end if it is.
func (c *Collector) ended() bool {
	if c.pid == 0 {
		return true
	}
	pid, err := syscall.Wait4(c.pid, nil, syscall.WNOHANG, nil)
	if pid == c.pid || errors.Is(err, syscall.ECHILD) {
		c.pid = 0
	}
	return c.pid == 0
}

// PID is its process; zero while it is down.
func (c *Collector) PID() int { return c.pid }

// Kill ends it at once, by SIGKILL.
func (c *Collector) Kill() error {
	if c.ended() {
		return nil
	}
	if err := syscall.Kill(c.pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("killing the Collector: %w", err)
	}
	for deadline := time.Now().Add(readyWithin); !c.ended(); time.Sleep(pause) {
		if time.Now().After(deadline) {
			return errors.New("killing the Collector: it does not end")
		}
	}
	return nil
}

// Close ends it.
func (c *Collector) Close() error { return c.Kill() }

// LastWords are the end of its log.
func (c *Collector) LastWords() string {
	b, _ := os.ReadFile(c.log) // without it there is less to say
	return string(b[max(0, len(b)-4000):])
}
