//go:build unix

// Package pgtest runs real PostgreSQL servers for tests and for bench: on a free
// port of the loopback interface, in a directory of their own, with a password and
// TLS. They can be killed, frozen and started again.
//
// The server's programs come from Debian's package postgresql, or any other
// installation: see Binaries.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// User and Password are the superuser's. The password stands for one that must
// show up nowhere, so it looks like nothing else.
const (
	User     = "postgres"
	Password = "planted/pass word:'\\@%41"
)

// readyWithin is how long a server may take to accept connections. Recovery after
// a kill is part of it.
const readyWithin = 60 * time.Second

// Server is one server. Its methods must not be called at the same time.
type Server struct {
	// Port is the server's on 127.0.0.1. It stays the same over restarts.
	Port int
	// CA is the file of the certificate that signed the server's, which is for
	// "localhost" and 127.0.0.1.
	CA string

	dir      string
	bin      string
	settings map[string]string
	as       *syscall.Credential // nil: this process's own user
	postgres int                 // the first process's id, zero while it is down
	log      string
}

// Binaries returns the directory of initdb and postgres: that of the variable
// POSTGRES_BIN, else where PATH has them, else the newest of Debian's.
func Binaries() (string, error) {
	complete := func(dir string) bool {
		for _, name := range []string{"initdb", "postgres"} {
			if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.IsDir() {
				return false
			}
		}
		return true
	}
	if dir := os.Getenv("POSTGRES_BIN"); dir != "" {
		if !complete(dir) {
			return "", fmt.Errorf("looking for PostgreSQL: POSTGRES_BIN names %s, which has no initdb and postgres", dir)
		}
		return dir, nil
	}
	dirs := filepath.SplitList(os.Getenv("PATH"))
	debian, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is well-formed
	sort.Slice(debian, func(i, j int) bool {
		major := func(dir string) int { n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir))); return n }
		return major(debian[i]) > major(debian[j])
	})
	for _, dir := range append(dirs, debian...) {
		if complete(dir) {
			return dir, nil
		}
	}
	return "", errors.New("looking for PostgreSQL: no initdb and postgres in PATH or /usr/lib/postgresql: " +
		"run apt-get install postgresql, or name their directory in POSTGRES_BIN")
}

// Start makes a server and returns when it accepts connections. The settings are
// lines of postgresql.conf. The caller closes it.
func Start(settings map[string]string) (*Server, error) {
	s := &Server{settings: settings}
	if err := s.create(); err != nil {
		return nil, errors.Join(fmt.Errorf("making a PostgreSQL server: %w", err), s.Close())
	}
	if err := s.Up(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Run is Start for a test or benchmark, which it fails if there is no server, and
// Close at its end.
func Run(tb testing.TB, settings map[string]string) *Server {
	tb.Helper()
	s, err := Start(settings)
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

func (s *Server) create() (err error) {
	if s.bin, err = Binaries(); err != nil {
		return err
	}
	// Directly under the directory for such files, since the server's user must
	// get into it.
	if s.dir, err = os.MkdirTemp("", "pgtest-"); err != nil {
		return err
	}
	s.log = filepath.Join(s.dir, "log")
	if os.Geteuid() == 0 {
		if err := s.anotherUser(); err != nil {
			return err
		}
	}
	free, err := ports.Free(1)
	if err != nil {
		return err
	}
	s.Port = free[0]
	pass := filepath.Join(s.dir, "password")
	if err := s.own(pass, []byte(Password+"\n")); err != nil {
		return err
	}
	init := s.command("initdb", "--pgdata", s.data(), "--username", User, "--pwfile", pass, "--encoding", "UTF8",
		"--locale", "C.UTF-8", "--auth-local", "scram-sha-256", "--auth-host", "scram-sha-256", "--no-instructions")
	if out, err := init.CombinedOutput(); err != nil {
		return fmt.Errorf("running initdb: %w: %s", err, out)
	}
	return s.certificates()
}

// anotherUser gives the directory to the user postgres, since PostgreSQL refuses
// to run as root.
func (s *Server) anotherUser() error {
	u, err := user.Lookup("postgres")
	if err != nil {
		return fmt.Errorf("PostgreSQL does not run as root, and there is no user to run it as: run apt-get install postgresql, or the tests as another user: %w", err)
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return err
	}
	s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(s.dir, int(uid), int(gid))
}

// own writes a file that only the server's user may read.
func (s *Server) own(name string, content []byte) error {
	if err := os.WriteFile(name, content, 0o600); err != nil {
		return err
	}
	if s.as == nil {
		return nil
	}
	return os.Chown(name, int(s.as.Uid), int(s.as.Gid))
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(context.Background(), filepath.Join(s.bin, name), args...) //nolint:gosec // the programs of PostgreSQL, with arguments from here
	c.Dir = s.dir
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "TZ=UTC"}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	return c
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Up starts the server again and returns when it accepts connections.
func (s *Server) Up() error {
	args := []string{"-D", s.data()}
	set := func(name, value string) { args = append(args, "-c", name+"="+value) }
	set("listen_addresses", "127.0.0.1")
	set("port", strconv.Itoa(s.Port))
	set("unix_socket_directories", s.dir)
	set("ssl", "on")
	set("ssl_cert_file", filepath.Join(s.dir, "server.crt"))
	set("ssl_key_file", filepath.Join(s.dir, "server.key"))
	set("shared_buffers", "64MB")
	for name, value := range s.settings {
		set(name, value)
	}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	deadline := time.Now().Add(readyWithin)
	for {
		c := s.command("postgres", args...)
		c.Stdout, c.Stderr = log, log
		if err := c.Start(); err != nil {
			return fmt.Errorf("starting PostgreSQL: %w", err)
		}
		s.postgres = c.Process.Pid
		err := s.ready(deadline)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("starting PostgreSQL: it accepts no connections within %s: %w: %s", readyWithin, err, s.lastWords())
		}
		// It ended by itself: what a killed one left may still hold its memory.
		time.Sleep(100 * time.Millisecond)
	}
}

// ready waits until the server accepts connections or has ended.
func (s *Server) ready(deadline time.Time) error {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		conn, err := pgx.Connect(ctx, s.DSN(nil))
		if err == nil {
			err = conn.Close(ctx)
		}
		cancel()
		if err == nil {
			return nil
		}
		if s.hasEnded() {
			return errors.New("it ended")
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}

// pause is that between two looks at the server.
const pause = 20 * time.Millisecond

// hasEnded reports whether the server is down, and takes note of its end if it is. No
// goroutine waits for that: a test may count them.
func (s *Server) hasEnded() bool {
	if s.postgres == 0 {
		return true
	}
	pid, err := syscall.Wait4(s.postgres, nil, syscall.WNOHANG, nil)
	if pid == s.postgres || errors.Is(err, syscall.ECHILD) {
		s.postgres = 0
		return true
	}
	return false
}

// wait waits for the server's end.
func (s *Server) wait() error {
	for deadline := time.Now().Add(readyWithin); !s.hasEnded(); time.Sleep(pause) {
		if time.Now().After(deadline) {
			return errors.New("stopping PostgreSQL: it does not end")
		}
	}
	return nil
}

func (s *Server) lastWords() string {
	b, _ := os.ReadFile(s.log) // without it there is less to say
	return string(b[max(0, len(b)-2000):])
}

// DSN is a URL of the superuser's at the database postgres. The options are
// parameters of the URL, such as sslmode, or take the place of user, password,
// host, port and database. TLS is off unless sslmode says otherwise.
func (s *Server) DSN(options map[string]string) string {
	take := func(name, otherwise string) string {
		if v, ok := options[name]; ok {
			return v
		}
		return otherwise
	}
	u := url.URL{
		Scheme: "postgres",
		User:   url.UserPassword(take("user", User), take("password", Password)),
		Host:   net.JoinHostPort(take("host", "127.0.0.1"), take("port", strconv.Itoa(s.Port))),
		Path:   "/" + take("database", "postgres"),
	}
	q := url.Values{"sslmode": {"disable"}}
	for name, value := range options {
		switch name {
		case "user", "password", "host", "port", "database":
		default:
			q.Set(name, value)
		}
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// Down stops the server in an orderly way, without waiting for its clients.
func (s *Server) Down() error {
	if s.hasEnded() {
		return nil
	}
	if err := syscall.Kill(s.postgres, syscall.SIGINT); err != nil {
		return fmt.Errorf("stopping PostgreSQL: %w", err)
	}
	if err := s.wait(); err != nil {
		return errors.Join(err, s.Kill())
	}
	return nil
}

// Kill ends every process of the server at once, by SIGKILL.
func (s *Server) Kill() error {
	if s.hasEnded() {
		return nil
	}
	return errors.Join(s.signal(syscall.SIGKILL), s.wait())
}

// Freeze stops every process of the server (SIGSTOP): connections stay open, and
// nothing answers.
func (s *Server) Freeze() error { return s.signal(syscall.SIGSTOP) }

// Thaw ends Freeze.
func (s *Server) Thaw() error { return s.signal(syscall.SIGCONT) }

// signal reaches the server's processes, the first one first, so that it starts no
// more of them.
func (s *Server) signal(sig syscall.Signal) error {
	if s.hasEnded() {
		return errors.New("signalling PostgreSQL: it is down")
	}
	children, err := childrenOf(s.postgres)
	if err != nil {
		return fmt.Errorf("signalling PostgreSQL: %w", err)
	}
	if err := syscall.Kill(s.postgres, sig); err != nil {
		return fmt.Errorf("signalling PostgreSQL: %w", err)
	}
	for _, pid := range children {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signalling PostgreSQL: %w", err)
		}
	}
	return nil
}

// childrenOf asks ps, which every Unix has.
func childrenOf(parent int) (pids []int, err error) {
	out, err := exec.CommandContext(context.Background(), "ps", "-A", "-o", "pid=", "-o", "ppid=").Output()
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(out)) {
		var pid, ppid int
		if _, err := fmt.Sscan(line, &pid, &ppid); err == nil && ppid == parent {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// Close stops the server and removes what it kept.
func (s *Server) Close() error {
	var err error
	if !s.hasEnded() {
		_ = s.Thaw() // it may be frozen
		err = s.Down()
	}
	if s.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}
