package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// program builds cmd/caddy once for all tests.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "deploy-")
	if err != nil {
		return "", err
	}
	built = dir
	file := filepath.Join(dir, "caddy")
	cmd := exec.Command("go", "build", "-o", file, "./cmd/caddy")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the program: %w: %s", err, out)
	}
	return file, os.Chmod(dir, 0o755) // another user runs it, too
})

var built string

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(built)
	os.Exit(code)
}

func caddy(t *testing.T) string {
	t.Helper()
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// instance is one running program.
type instance struct {
	t    *testing.T
	cmd  *exec.Cmd
	env  []string
	out  *bytes.Buffer
	done chan error

	dir                    string // AUDIT_DIR
	calls, viewer, metrics string // addresses
}

// environment is what an instance of a Caddyfile is told, on ports of loopback that are free.
func (i *instance) environment(dir string, more ...string) {
	i.dir, i.calls, i.viewer, i.metrics = dir, ports.ForTest(i.t), ports.ForTest(i.t), ports.ForTest(i.t)
	port := func(addr string) string { _, p, _ := net.SplitHostPort(addr); return p }
	i.env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir,
		"AUDIT_DIR=" + dir, "ADMIN_LISTEN=unix/" + dir + "/admin.sock|0600",
		"PORT=" + port(i.calls), "VIEWER_PORT=" + port(i.viewer), "METRICS_PORT=" + port(i.metrics),
	}, more...)
}

// start runs the command and waits until it answers calls.
func (i *instance) start(cmd *exec.Cmd) {
	i.t.Helper()
	i.cmd, i.out, i.done = cmd, new(bytes.Buffer), make(chan error, 1)
	cmd.Stdout, cmd.Stderr = i.out, i.out
	cmd.Env = i.env
	if err := cmd.Start(); err != nil {
		i.t.Fatal(err)
	}
	go func() { i.done <- cmd.Wait() }()
	i.t.Cleanup(func() {
		if i.cmd == cmd {
			_ = cmd.Process.Kill()
			<-i.done
		}
	})
	// Its servers begin one after the other, in any order.
	silent := []string{i.calls, i.metrics}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		for len(silent) > 0 {
			conn, err := net.Dial("tcp", silent[0])
			if err != nil {
				break
			}
			conn.Close()
			silent = silent[1:]
		}
		if len(silent) == 0 {
			return
		}
		select {
		case err := <-i.done:
			i.cmd = nil
			i.t.Fatalf("it ended: %v\n%s", err, i.out)
		default:
		}
		if time.Now().After(deadline) {
			i.t.Fatalf("it does not answer: %s", i.out)
		}
	}
}

// end sends a signal and waits for the end.
func (i *instance) end(sig syscall.Signal) error {
	i.t.Helper()
	if err := i.cmd.Process.Signal(sig); err != nil {
		i.t.Fatal(err)
	}
	i.cmd = nil
	select {
	case err := <-i.done:
		return err
	case <-time.After(2 * time.Minute):
		i.t.Fatalf("it does not end: %s", i.out)
		return nil
	}
}

// call sends one call and returns the answer's status.
func call(t *testing.T, method, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// output runs the program with an instance's environment.
func output(ctx context.Context, program string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = env
	cmd.Dir = os.TempDir()
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("caddy %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// exitedWith reports whether an error is an exit with this status.
func exitedWith(err error, status int) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == status
}
