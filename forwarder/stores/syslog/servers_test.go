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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/storetest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/certtest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
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
	s := start(t, f, limits{message: 8 << 20, frame: 8 << 20})
	return contractTarget(t, f, other{
		addr: s.addr, arrivals: s.arrivals, down: s.kill, up: s.start,
		hold: func(d time.Duration) func() { return s.pause(d) }, probation: 200 * time.Millisecond,
	})
}

// limits are what a receiver takes, in bytes.
type limits struct {
	message int
	frame   int // of rsyslog
}

// stock are those that receivers have unless they are told otherwise.
var (
	stockRsyslog  = limits{message: 8 << 10, frame: 200_000}
	stockSyslogNG = limits{message: 64 << 10}
)

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
	free, err := ports.Free(1)
	if err != nil {
		t.Fatal(err)
	}
	port := free[0]
	dir := t.TempDir()
	s := &server{t: t, addr: ports.Address(port), file: filepath.Join(dir, "arrived"), log: filepath.Join(dir, "log")}
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

// configured is a receiver's configuration as docs/syslog.md has it, with what it has to
// have in its place here: each text is replaced by the next.
func configured(t testing.TB, language, path string, f files, replace ...string) string {
	t.Helper()
	manual, err := os.ReadFile("../../../docs/syslog.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(manual), "```"+language+"\n")
	text, _, _ = strings.Cut(text, "```")
	replace = append(replace, "/etc/audit/ca.pem", f.ca, "/etc/audit/cert.pem", f.serverCert, "/etc/audit/key.pem", f.serverKey)
	for i := 0; i < len(replace); i += 2 {
		if strings.Count(text, replace[i]) != 1 {
			t.Fatalf("docs/syslog.md: the configuration of %s does not have %q once", language, replace[i])
		}
		text = strings.Replace(text, replace[i], replace[i+1], 1)
	}
	return certtest.Save(t, path, []byte(text))
}

func startRsyslog(t testing.TB, f files, l limits) *server {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	program, err := rsyslog.Find(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return newServer(t, func(dir string, port int, file string) func() *exec.Cmd {
		conf := configured(t, "rsyslog", filepath.Join(dir, "rsyslog.conf"), f,
			`address="0.0.0.0" port="6514"`, fmt.Sprintf(`address="127.0.0.1" port="%d"`, port), "/var/log/audit.ndjson", file,
			`maxMessageSize="1048576"`, fmt.Sprintf("maxMessageSize=%q", strconv.Itoa(l.message)),
			`maxFrameSize="1048576"`, fmt.Sprintf("maxFrameSize=%q", strconv.Itoa(l.frame)),
			`string="%msg%`, `string="%fromhost-ip% %msg%`, "global(", fmt.Sprintf("global(workDirectory=%q", dir))
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
		conf := configured(t, "syslog-ng", filepath.Join(dir, "syslog-ng.conf"), f,
			`ip("0.0.0.0") port(6514)`, fmt.Sprintf(`ip("127.0.0.1") port(%d)`, port), "/var/log/audit.ndjson", file,
			"(1048576)", fmt.Sprintf("(%d)", l.message), `"${MESSAGE}`, `"${SOURCEIP} ${MESSAGE}`)
		return func() *exec.Cmd {
			cmd := exec.Command(filepath.Join(root, "usr/sbin/syslog-ng"), "-F", "-e", "--no-caps", "-f", conf,
				"-R", filepath.Join(dir, "persist"), "-c", filepath.Join(dir, "ctl"), "-p", filepath.Join(dir, "pid"), "--module-path", modules[0])
			cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(libraries, ":"))
			return cmd
		}
	})
}

// What receivers do with a message that is longer than they take, without being told to
// take more, is what docs/syslog.md says of max_message.
func TestAReceiverThatWasToldNothingTakesWhatTheDefaultAllows(t *testing.T) {
	for name, c := range map[string]struct {
		start func(testing.TB, files, limits) *server
		limits
	}{"rsyslog": {startRsyslog, stockRsyslog}, "syslog-ng": {startSyslogNG, stockSyslogNG}} {
		t.Run(name, func(t *testing.T) {
			s, server := limited(t, c.start, c.limits, 0)
			batch := records(t, 1, 3)
			form := s.format
			batch[1] = record(t, 2, 0)
			batch[1] = record(t, 2, DefaultMaxMessage-len(form.append(nil, &batch[1])))
			if n := len(form.append(nil, &batch[1])); n != DefaultMaxMessage {
				t.Fatalf("the message has %d bytes", n)
			}
			write(t, s, batch)
			same(t, "what arrived", documents(batch), arrived(t, server, 3))
		})
	}
}

func TestRsyslogDividesAMessageThatIsTooLong(t *testing.T) {
	s, server := limited(t, startRsyslog, stockRsyslog, NoMaxMessage)
	a, long, b := records(t, 1, 2), records(t, 3, 3), records(t, 4, 5)
	long[0] = record(t, 3, 20_000)
	write(t, s, a)
	write(t, s, long)
	write(t, s, b)
	docs := arrived(t, server, 7)
	whole := string(long[0].JSON)
	if len(docs) != 7 || docs[2] == whole || !strings.HasPrefix(whole, docs[2]) {
		t.Errorf("%d documents, of which the third is %.100q", len(docs), docs[2])
	}
	same(t, "the others", documents(a, b), append(docs[:2:2], docs[5:]...))
}

func TestRsyslogLosesWhatComesAfterAFrameThatIsTooLong(t *testing.T) {
	s, server := limited(t, startRsyslog, stockRsyslog, NoMaxMessage)
	a, long, b := records(t, 1, 2), records(t, 3, 3), records(t, 4, 50)
	long[0] = record(t, 3, 200_000)
	write(t, s, a)
	write(t, s, long)
	write(t, s, b)
	server.settle(t)
	for _, doc := range arrived(t, server, 2)[2:] {
		if slices.Contains(documents(b), doc) {
			t.Errorf("there is %q", doc)
		}
	}
}

func TestSyslogNGEndsTheConnectionForAMessageThatIsTooLong(t *testing.T) {
	s, server := limited(t, startSyslogNG, stockSyslogNG, NoMaxMessage)
	a, long, b := records(t, 1, 2), records(t, 3, 3), records(t, 4, 5)
	long[0] = record(t, 3, 64<<10)
	write(t, s, a)
	if err := s.Write(t.Context(), long); err == nil {
		<-s.conn.broken
		s.c.probation = time.Minute // which the end of a connection cuts short
		for range 2 {
			mentions(t, s.Write(t.Context(), b), "max_message")
		}
	} else {
		mentions(t, err, "max_message")
	}
	_ = s.Close() // it cannot confirm
	c := s.c
	c.MaxMessage = 64 << 10
	next := open(t, c)
	write(t, next, b)
	server.settle(t)
	docs := arrived(t, server, 4)
	same(t, "the end", documents(a, b), docs[len(docs)-4:])
}

// limited is a store and a receiver that takes so much.
func limited(t *testing.T, start func(testing.TB, files, limits) *server, l limits, maxMessage int) (*Store, *server) {
	f := newFiles(t)
	server := start(t, f, l)
	return open(t, Config{
		URL: "tls://" + server.addr, TLS: TLS{CA: f.ca, Certificate: f.cert, Key: f.key}, MaxMessage: maxMessage, probation: time.Second,
	}), server
}

// arrived are the documents of a server, once there are so many.
func arrived(t *testing.T, s *server, n int) (docs []string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		all, err := s.arrivals()
		if err != nil {
			t.Fatal(err)
		}
		if len(all) < n && time.Now().Before(deadline) {
			continue
		}
		for _, a := range all {
			docs = append(docs, string(a.msg))
		}
		if len(docs) < n {
			t.Fatalf("%d documents arrived, want %d", len(docs), n)
		}
		return docs
	}
}

// Killed and started again while batches are written, as often as there is time for, a
// receiver has all that was acknowledged.
func TestAReceiverThatIsKilledAgainAndAgainHasEverything(t *testing.T) {
	for name, start := range map[string]func(testing.TB, files, limits) *server{"rsyslog": startRsyslog, "syslog-ng": startSyslogNG} {
		for how, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGTERM} {
			t.Run(name+" "+how, func(t *testing.T) {
				f := newFiles(t)
				server := start(t, f, limits{message: 1 << 20, frame: 1 << 20})
				s := open(t, Config{URL: "tls://" + server.addr, TLS: TLS{CA: f.ca, Certificate: f.cert, Key: f.key}, probation: 500 * time.Millisecond})
				stop, stopped := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(stopped)
					for range 4 {
						time.Sleep(700 * time.Millisecond)
						server.end(signal)
						server.start()
					}
					close(stop)
				}()
				var acked []string
				for n := 0; ; n++ {
					batch := records(t, 20*n+1, 20*n+20)
					for s.Write(t.Context(), batch) != nil {
						time.Sleep(50 * time.Millisecond)
					}
					acked = append(acked, documents(batch)...)
					select {
					case <-stop:
					default:
						continue
					}
					break
				}
				<-stopped
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				var missing, repeats int
				for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
					missing, repeats = missingOf(acked, arrived(t, server, 1))
					if missing == 0 || time.Now().After(deadline) {
						break
					}
				}
				t.Logf("%d entries, %d repeats, %d missing", len(acked), repeats, missing)
				if missing > 0 {
					t.Errorf("%d of %d acknowledged entries are not there", missing, len(acked))
				}
			})
		}
	}
}

// missingOf counts the documents that did not arrive, and those that arrived again.
func missingOf(docs, arrived []string) (missing, repeats int) {
	has := map[string]bool{}
	for _, doc := range arrived {
		if has[doc] {
			repeats++
		}
		has[doc] = true
	}
	for _, doc := range docs {
		if !has[doc] {
			missing++
		}
	}
	return missing, repeats
}

// settle waits until the file no longer grows.
func (s *server) settle(t *testing.T) {
	t.Helper()
	for size, since := int64(-1), time.Now(); time.Since(since) < 500*time.Millisecond; time.Sleep(20 * time.Millisecond) {
		info, err := os.Stat(s.file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() != size {
			size, since = info.Size(), time.Now()
		}
	}
}
