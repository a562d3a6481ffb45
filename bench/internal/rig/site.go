package rig

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// Site is one running place of the product: a directory, ports, an API
// behind it. Processes come and go there.
type Site struct {
	Setup
	// Dir holds everything that the site writes.
	Dir string
	// Addr is where calls are sent, Metrics where Prometheus asks, and Viewer where
	// readers do.
	Addr, Metrics, Viewer string

	env []string
}

// NewSite chooses ports for a site in dir that stands before the API at api.
func NewSite(s Setup, dir, api string) (*Site, error) {
	free, err := ports.Free(3)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the site's directory: %w", err)
	}
	addr := func(i int) string { return ports.Address(free[i]) }
	site := &Site{Setup: s, Dir: dir, Addr: addr(0), Metrics: addr(1), Viewer: addr(2)}
	site.env = append(append(os.Environ(), s.Env...),
		"HOME="+dir,
		"XDG_CONFIG_HOME="+filepath.Join(dir, "config"),
		"XDG_DATA_HOME="+filepath.Join(dir, "data"),
		"BIND="+ports.Host,
		"PORT="+strconv.Itoa(free[0]),
		"METRICS_BIND="+ports.Host,
		"METRICS_PORT="+strconv.Itoa(free[1]),
		"VIEWER_BIND="+ports.Host,
		"VIEWER_PORT="+strconv.Itoa(free[2]),
		"PLATFORM=supabase",
		"PLATFORM_API="+api,
		"PLATFORM_URL=http://"+api,
		"AUDIT_DIR="+site.AuditDir(),
		"ADMIN_LISTEN=unix/"+site.socket()+"|0600",
	)
	return site, nil
}

// AuditDir is where the site keeps its buffer and its default store.
func (s *Site) AuditDir() string { return filepath.Join(s.Dir, "audit") }

// LogPath is where all processes of the site write their log.
func (s *Site) LogPath() string { return filepath.Join(s.Dir, "caddy.log") }

// Process is one life of the site.
type Process struct {
	// PID is the operating system's number of it.
	PID int

	site *Site
	cmd  *exec.Cmd
	done chan struct{}
	err  error // readable when done is closed
	// dying says that we asked for its end.
	dying atomic.Bool
}

// Start starts the build. It does not wait for it; see Ready. When ctx ends
// the process is killed.
func (s *Site) Start(ctx context.Context) (*Process, error) {
	log, err := os.OpenFile(s.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the site's log: %w", err)
	}
	defer log.Close() // the child has its own descriptor
	cmd := exec.CommandContext(ctx, s.Caddy, "run", "--config", s.Caddyfile)
	cmd.Dir, cmd.Env = s.Dir, s.env
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", s.Caddy, err)
	}
	p := &Process{PID: cmd.Process.Pid, site: s, cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Ready waits until the site accepts connections. The connection that finds
// out carries no request, so it is no call.
func (p *Process) Ready(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.DialTimeout("tcp", p.site.Addr, time.Second); err == nil {
			return c.Close()
		}
		select {
		case <-p.done:
			return fmt.Errorf("starting the build: it ended (%s); its last words:\n%s", p.cmd.ProcessState, p.site.LastWords())
		case <-ctx.Done():
			return fmt.Errorf("starting the build: no connection to %s after %s; its last words:\n%s", p.site.Addr, timeout, p.site.LastWords())
		case <-tick.C:
		}
	}
}

// Kill ends the process as kill -9 does and waits until it is gone.
func (p *Process) Kill() {
	p.dying.Store(true)
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop ends the process as an orderly shutdown does. One that has not ended
// after the timeout, or ends with an error, is an error; either way it is
// gone afterwards.
func (p *Process) Stop(timeout time.Duration) error {
	p.dying.Store(true)
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("stopping the build: %w; its last words:\n%s", p.err, p.site.LastWords())
		}
		return nil
	case <-time.After(timeout):
		p.Kill()
		return fmt.Errorf("stopping the build: it was still running %s after SIGTERM; its last words:\n%s", timeout, p.site.LastWords())
	}
}

// Done is closed when the process is gone.
func (p *Process) Done() <-chan struct{} { return p.done }

// Crashed says whether the process ended although nobody asked it to.
func (p *Process) Crashed() error {
	select {
	case <-p.done:
		if !p.dying.Load() {
			return fmt.Errorf("running the build: it ended by itself (%s); its last words:\n%s", p.cmd.ProcessState, p.site.LastWords())
		}
	default:
	}
	return nil
}

// LastWords is the end of the site's log.
func (s *Site) LastWords() string {
	b, err := os.ReadFile(s.LogPath())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}
