//go:build unix

// Package s3test runs a real S3 server for tests and for bench: versitygw, over a
// directory of its own, on a free port of the loopback interface. It can be stopped,
// killed, frozen and started again. It knows Object Lock and versions.
package s3test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
	"github.com/caddy-audit-log/caddy-audit-log/internal/program"
)

// Program is what runs. It is built once, which takes minutes.
const Program = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// The root account's keys. They stand for some that must show up nowhere, so they look
// like nothing else.
const (
	AccessKey = "PLANTEDACCESSKEYOFTHEROOT"
	SecretKey = "planted/secret+key=of+the+root/account"
)

const (
	buildWithin = 30 * time.Minute
	readyWithin = 30 * time.Second
	pause       = 10 * time.Millisecond
)

// Server is one server. Its methods must not be called at the same time.
type Server struct {
	// Addr is the host and port, which stay the same over restarts.
	Addr string

	program string
	dir     string
	cert    string
	key     string
	process int // zero while it is down
}

// Start makes a server and returns when it answers. With the files of a certificate and
// its key it speaks TLS. The caller closes it.
func Start(ctx context.Context, cert, key string) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, buildWithin)
	defer cancel()
	file, err := program.Go(ctx, Program)
	if err != nil {
		return nil, err
	}
	s := &Server{program: file, cert: cert, key: key}
	if s.dir, err = os.MkdirTemp("", "s3test-"); err != nil {
		return nil, err
	}
	for _, dir := range []string{s.buckets(), filepath.Join(s.dir, "versions")} {
		err = errors.Join(err, os.Mkdir(dir, 0o700))
	}
	if err == nil {
		var free []string
		if free, err = ports.Addresses(1); err == nil {
			s.Addr = free[0]
			err = s.Up()
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Run is Start for a test, which it fails if there is no server, and Close at its end.
func Run(tb testing.TB, cert, key string) *Server {
	tb.Helper()
	s, err := Start(context.Background(), cert, key)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func (s *Server) buckets() string { return filepath.Join(s.dir, "buckets") }

// URL is that of a bucket, or of what lies in one.
func (s *Server) URL(path string) string {
	if s.cert != "" {
		return "https://" + s.Addr + "/" + path
	}
	return "http://" + s.Addr + "/" + path
}

// Up starts the server again and returns when it answers.
func (s *Server) Up() error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"--port", s.Addr, "--quiet"}
	if s.cert != "" {
		args = append(args, "--cert", s.cert, "--key", s.key)
	}
	args = append(args, "posix", "--versioning-dir", filepath.Join(s.dir, "versions"), s.buckets())
	c := exec.CommandContext(context.Background(), s.program, args...) //nolint:gosec // a program that was built here
	c.Dir, c.Stdout, c.Stderr = s.dir, log, log
	c.Env = []string{"ROOT_ACCESS_KEY=" + AccessKey, "ROOT_SECRET_KEY=" + SecretKey, "HOME=" + s.dir}
	if err := c.Start(); err != nil {
		return fmt.Errorf("starting versitygw: %w", err)
	}
	s.process = c.Process.Pid
	for deadline := time.Now().Add(readyWithin); ; time.Sleep(pause) {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "tcp", s.Addr)
		if err == nil && !s.hasEnded() { // else it is another's
			return conn.Close()
		}
		if s.hasEnded() || time.Now().After(deadline) {
			words, _ := os.ReadFile(log.Name()) // without it there is less to say
			return errors.Join(fmt.Errorf("starting versitygw: it does not listen: %s", words[max(0, len(words)-2000):]), err)
		}
	}
}

// hasEnded reports whether the server is down. No goroutine waits for that: a test may
// count them.
func (s *Server) hasEnded() bool {
	if s.process == 0 {
		return true
	}
	pid, err := syscall.Wait4(s.process, nil, syscall.WNOHANG, nil)
	if pid == s.process || errors.Is(err, syscall.ECHILD) {
		s.process = 0
		return true
	}
	return false
}

func (s *Server) end(by syscall.Signal) error {
	if s.hasEnded() {
		return nil
	}
	if err := syscall.Kill(s.process, by); err != nil {
		return fmt.Errorf("stopping versitygw: %w", err)
	}
	for deadline := time.Now().Add(readyWithin); !s.hasEnded(); time.Sleep(pause) {
		if time.Now().After(deadline) {
			return errors.New("stopping versitygw: it does not end")
		}
	}
	return nil
}

// Kill ends the server as a power cut does, but for what its kernel has.
func (s *Server) Kill() error { return s.end(syscall.SIGKILL) }

// Down is Kill: an orderly end waits for clients that are gone.
func (s *Server) Down() error { return s.Kill() }

// Freeze lets the server answer nothing until thaw is called.
func (s *Server) Freeze() (thaw func(), err error) {
	pid := s.process
	return func() { _ = syscall.Kill(pid, syscall.SIGCONT) }, syscall.Kill(pid, syscall.SIGSTOP)
}

// Close ends the server and removes what it had.
func (s *Server) Close() error {
	return errors.Join(s.Kill(), os.RemoveAll(s.dir))
}

// Object is an object as it lies on the server's disk.
type Object struct {
	// Key is its name in the bucket.
	Key string
	// File is where its newest version lies.
	File string
	at   time.Time
}

// Objects are the newest versions of a bucket's objects that have a prefix, in the order
// in which they were written. It asks the server's disk and not the server.
func (s *Server) Objects(bucket, prefix string) (all []Object, err error) {
	root := filepath.Join(s.buckets(), bucket)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		key, err := filepath.Rel(root, path)
		if err != nil || !strings.HasPrefix(key, prefix) {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		all = append(all, Object{filepath.ToSlash(key), path, info.ModTime()})
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	slices.SortStableFunc(all, func(a, b Object) int { return a.at.Compare(b.at) })
	return all, err
}

// Versions is how many versions of an object there are, its newest included.
func (s *Server) Versions(bucket string) (n int, err error) {
	for _, root := range []string{filepath.Join(s.buckets(), bucket), filepath.Join(s.dir, "versions", bucket)} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && !strings.Contains(path, "/.sgwtmp") {
				n++
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Plain decompresses an object.
func (o Object) Plain() ([]byte, error) {
	b, err := os.ReadFile(o.File)
	if err != nil || len(b) == 0 {
		return nil, err
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	if b, err = z.DecodeAll(b, nil); err != nil {
		return nil, fmt.Errorf("decompressing %s: %w", o.Key, err)
	}
	return b, nil
}
