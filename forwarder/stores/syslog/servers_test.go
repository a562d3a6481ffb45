//go:build servers

package syslogstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/storetest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/program"
	"github.com/caddy-audit-log/caddy-audit-log/internal/rsyslog"
)

func TestTheStoreKeepsItsContractWithRsyslog(t *testing.T) {
	storetest.Run(t, func(t testing.TB) *storetest.Target { return serverTarget(t, startRsyslog) }, storetest.Options{NotApplicable: notApplicable()})
}

func TestTheStoreKeepsItsContractWithSyslogNG(t *testing.T) {
	storetest.Run(t, func(t testing.TB) *storetest.Target { return serverTarget(t, startSyslogNG) }, storetest.Options{NotApplicable: notApplicable()})
}

func serverTarget(t testing.TB, start func(testing.TB, files, limits) *server) *storetest.Target {
	f := newFiles(t)
	s := start(t, f, limits{message: 8 << 20})
	return contractTarget(t, f, other{
		addr: s.addr, arrivals: s.arrivals, down: s.kill, up: s.start,
		hold: func(d time.Duration) func() { return s.pause(d) }, probation: 200 * time.Millisecond,
	})
}

// limits are what a receiver takes.
type limits struct{ message int }

// server is a real receiver, which appends what arrives to a file: a line for each
// message, with the host that it came from and the MSG.
type server struct {
	t       testing.TB
	addr    string
	file    string
	command func() *exec.Cmd
	log     string

	cmd   *exec.Cmd
	ended chan struct{}
}

// newServer starts a receiver. Configure returns its command for a directory, an address
// and the file that it appends to.
func newServer(t testing.TB, configure func(dir string, port int, file string) func() *exec.Cmd) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	dir := t.TempDir()
	s := &server{t: t, addr: "127.0.0.1:" + strconv.Itoa(port), file: filepath.Join(dir, "arrived"), log: filepath.Join(dir, "log")}
	s.command = configure(dir, port, s.file)
	s.start()
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			b, _ := os.ReadFile(s.log)
			t.Logf("the receiver's log ends: %s", b[max(0, len(b)-2000):])
		}
	})
	return s
}

// start starts it and waits until it listens.
func (s *server) start() {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer log.Close()
	s.cmd = s.command()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.t.Errorf("starting the receiver: %v", err)
		return
	}
	cmd, ended := s.cmd, make(chan struct{})
	s.ended = ended
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed
	}()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			c.Close()
			return
		}
		select {
		case <-ended:
			b, _ := os.ReadFile(s.log)
			s.t.Errorf("starting the receiver: it has ended: %s", b)
			return
		default:
		}
		if time.Now().After(deadline) {
			s.t.Errorf("starting the receiver: it does not listen: %v", err)
			return
		}
	}
}

func (s *server) kill() { s.end(syscall.SIGKILL) }

func (s *server) end(signal syscall.Signal) {
	_ = s.cmd.Process.Signal(signal) // or it has ended
	<-s.ended
}

// pause stops the program for a time, or until it is let go.
func (s *server) pause(d time.Duration) (letGo func()) {
	process := s.cmd.Process
	process.Signal(syscall.SIGSTOP)
	timer := time.AfterFunc(d, func() { process.Signal(syscall.SIGCONT) })
	return func() {
		timer.Stop()
		process.Signal(syscall.SIGCONT)
	}
}

func (s *server) arrivals() (all []arrival, err error) {
	b, err := os.ReadFile(s.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for line := range bytes.Lines(b) {
		host, msg, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
		if !ok {
			return nil, fmt.Errorf("the receiver has a line that cannot be read: %.200q", line)
		}
		all = append(all, arrival{string(host), msg})
	}
	return all, nil
}

func startRsyslog(t testing.TB, f files, l limits) *server {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	program, err := rsyslog.Find(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return newServer(t, func(dir string, port int, file string) func() *exec.Cmd {
		conf := save(t, filepath.Join(dir, "rsyslog.conf"), fmt.Appendf(nil, `
global(workDirectory=%q net.enableDNS="off"
	maxMessageSize="%d" parser.escapeControlCharactersOnReceive="off"
	defaultNetstreamDriverCAFile=%q defaultNetstreamDriverCertFile=%q defaultNetstreamDriverKeyFile=%q)
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/certvalid" maxFrameSize="%d")
template(name="arrived" type="string" string="%%fromhost-ip%% %%msg%%\n")
ruleset(name="audit") {
	action(type="omfile" file=%q template="arrived")
}
input(type="imtcp" address="127.0.0.1" port="%d" ruleset="audit")
`, dir, l.message, f.ca, f.serverCert, f.serverKey, l.message, file, port))
		return func() *exec.Cmd { return program.Command(conf, filepath.Join(dir, "pid")) }
	})
}

// syslogNGPackages are syslog-ng and what it needs beyond what each system has.
var syslogNGPackages = []string{"syslog-ng-core", "libivykis0", "libnet1", "libpcre3", "libwrap0"}

func startSyslogNG(t testing.TB, f files, l limits) *server {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	root, err := program.Debian(ctx, syslogNGPackages...)
	if err != nil {
		t.Fatal(err)
	}
	modules, err := filepath.Glob(filepath.Join(root, "usr/lib/syslog-ng/[0-9]*"))
	if err != nil || len(modules) != 1 {
		t.Fatalf("modules of syslog-ng: %v, %v", modules, err)
	}
	var libraries []string
	for _, pattern := range []string{"usr/lib/*-linux-gnu*", "lib/*-linux-gnu*", "usr/lib/syslog-ng"} {
		found, _ := filepath.Glob(filepath.Join(root, pattern)) // the patterns are well formed
		libraries = append(libraries, found...)
	}
	return newServer(t, func(dir string, port int, file string) func() *exec.Cmd {
		conf := save(t, filepath.Join(dir, "syslog-ng.conf"), fmt.Appendf(nil, `@version: 3.38
options { use-dns(no); keep-hostname(yes); log-msg-size(%d); stats-freq(0); };
source audit {
	syslog(ip("127.0.0.1") port(%d) transport("tls")
		tls(ca-file(%q) cert-file(%q) key-file(%q) peer-verify(required-trusted)));
};
destination arrived { file(%q template("${SOURCEIP} ${MESSAGE}\n")); };
log { source(audit); destination(arrived); flags(flow-control); };
`, l.message, port, f.ca, f.serverCert, f.serverKey, file))
		return func() *exec.Cmd {
			cmd := exec.Command(filepath.Join(root, "usr/sbin/syslog-ng"), "-F", "-e", "--no-caps", "-f", conf,
				"-R", filepath.Join(dir, "persist"), "-c", filepath.Join(dir, "ctl"), "-p", filepath.Join(dir, "pid"), "--module-path", modules[0])
			cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(libraries, ":"))
			return cmd
		}
	})
}
