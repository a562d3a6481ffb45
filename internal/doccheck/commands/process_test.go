//go:build unix

package commands

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a command that was started, and all that it starts.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	mu    sync.Mutex
	said  bytes.Buffer
}

// Write is for what the process prints.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// start runs a line in a shell, as a reader of the document would.
func start(t *testing.T, dir string, env []string, line string, as *syscall.Credential) *process {
	t.Helper()
	p := &process{cmd: exec.Command("bash", "-o", "pipefail", "-c", line), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = dir, env, p, p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: as}
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // its state says how it ended
	}()
	return p
}

// wait is the exit status of a process that ends by itself within a time; -1 is none.
func (p *process) wait(within time.Duration) int {
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.ended
		return -1
	}
}

// end interrupts it, as a person does, and is its exit status.
func (p *process) end(by syscall.Signal) int {
	_ = syscall.Kill(-p.cmd.Process.Pid, by)
	return p.wait(90 * time.Second)
}

// until waits for something that it prints.
func (p *process) until(ctx context.Context, pattern string) error {
	want := regexp.MustCompile(pattern)
	for !want.MatchString(p.output()) {
		select {
		case <-p.ended:
			if want.MatchString(p.output()) {
				return nil
			}
			return errors.New("it ended without having printed " + pattern)
		case <-ctx.Done():
			return errors.New("it did not print " + pattern)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}
