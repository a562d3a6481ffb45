package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
	"github.com/caddy-audit-log/caddy-audit-log/internal/rsyslog"
)

// settled is how long the receiver's file must not have grown, to be read.
const settled = 500 * time.Millisecond

// hangs is how long the receiver reads nothing before it is killed.
const hangs = time.Second

// syslogStore is an rsyslog that appends each message, as it came, to a file. Its outage
// is that it hangs for a moment and is killed: what its system has taken for it in that
// time is lost, though it was acknowledged.
type syslogStore struct {
	dir     string
	addr    string
	through string // where the build finds it, if that is not addr
	program *rsyslog.Program

	cmd   *exec.Cmd
	ended chan struct{}
}

func newSyslog(dir string) (_ *syslogStore, err error) {
	free, err := ports.Free(1)
	if err != nil {
		return nil, err
	}
	s := &syslogStore{dir: dir, addr: ports.Address(free[0])}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of rsyslog: %w", err)
	}
	if s.program, err = rsyslog.Find(context.Background()); err != nil {
		return nil, err
	}
	if err := s.certify(); err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`
global(workDirectory=%q net.enableDNS="off" maxMessageSize="8m"
	defaultNetstreamDriverCAFile=%q defaultNetstreamDriverCertFile=%q defaultNetstreamDriverKeyFile=%q)
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon" maxFrameSize="8388608")
template(name="arrived" type="string" string="%%rawmsg%%\n")
ruleset(name="audit") {
	action(type="omfile" file=%q template="arrived")
}
input(type="imtcp" address=%q port="%d" ruleset="audit")
`, dir, s.path("cert.pem"), s.path("cert.pem"), s.path("key.pem"), s.path("arrived"), ports.Host, free[0])
	if err := os.WriteFile(s.path("rsyslog.conf"), []byte(conf), 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration of rsyslog: %w", err)
	}
	return s, s.up(context.Background())
}

func (s *syslogStore) path(name string) string { return filepath.Join(s.dir, name) }

// certify makes a certificate that stands for itself.
func (s *syslogStore) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.ParseIP(ports.Host)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(s.path("cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(s.path("key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

func (*syslogStore) name() string { return syslogKind }
func (*syslogStore) kind() string { return syslogKind }
func (*syslogStore) once() bool   { return false }

func (s *syslogStore) block() string {
	at := s.addr
	if s.through != "" {
		at = s.through
	}
	return fmt.Sprintf("store syslog tls://%s {\n\ttimeout 5s\n\ttls {\n\t\tca %s\n\t}\n}", at, s.path("cert.pem"))
}

func (s *syslogStore) down(ctx context.Context) error {
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stopping rsyslog: %w", err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(hangs):
	}
	s.kill()
	return nil
}

func (s *syslogStore) kill() {
	_ = s.cmd.Process.Kill() // or it has ended
	<-s.ended
}

func (s *syslogStore) up(ctx context.Context) error {
	log, err := os.OpenFile(s.path("rsyslog.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("starting rsyslog: %w", err)
	}
	defer log.Close()
	cmd, ended := s.program.Command(s.path("rsyslog.conf"), s.path("pid")), make(chan struct{})
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting rsyslog: %w", err)
	}
	s.cmd, s.ended = cmd, ended
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed
	}()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			return c.Close()
		}
		if ctx.Err() != nil || time.Since(began) > readyTimeout {
			said, _ := os.ReadFile(s.path("rsyslog.log"))
			return fmt.Errorf("starting rsyslog: it does not listen: %w: %s", err, said)
		}
	}
}

func (s *syslogStore) close() error {
	if s.cmd != nil {
		s.kill()
	}
	return nil
}

// messages are what arrived, whole, once the file no longer grows. A last line that is not
// whole was being written when the receiver was killed; what came after it begins there.
func (s *syslogStore) messages(ctx context.Context) (all [][]byte, err error) {
	for size, since := int64(-1), time.Now(); time.Since(since) < settled; {
		info, err := os.Stat(s.path("arrived"))
		if err != nil {
			return nil, fmt.Errorf("reading what rsyslog has: %w", err)
		}
		if info.Size() != size {
			size, since = info.Size(), time.Now()
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(settled / 10):
		}
	}
	b, err := os.ReadFile(s.path("arrived"))
	if err != nil {
		return nil, fmt.Errorf("reading what rsyslog has: %w", err)
	}
	for line := range bytes.Lines(b) {
		all = append(all, bytes.TrimSuffix(line, []byte("\n")))
	}
	return all, nil
}

// endOfData is what stands before the MSG, and nowhere before it: a quotation mark in a
// value is escaped.
var endOfData = []byte(`"] `)

func (s *syslogStore) arrivals(ctx context.Context) ([]rig.Entry, error) {
	messages, err := s.messages(ctx)
	if err != nil {
		return nil, err
	}
	return decode(func(yield func([]byte) error) error {
		for _, m := range messages {
			_, doc, ok := bytes.Cut(m, endOfData)
			if !ok {
				return fmt.Errorf("reading what rsyslog has: a line is no message: %.200q", m)
			}
			if err := yield(doc); err != nil {
				return err
			}
		}
		return nil
	})
}

// rewrite writes the same messages by a plain connection with TLS, size of them at a time.
// It ends when the receiver has read all and closes.
func (s *syslogStore) rewrite(ctx context.Context, size int) (n int, took time.Duration, err error) {
	messages, err := s.messages(ctx)
	if err != nil {
		return 0, 0, err
	}
	var batches [][]byte
	for i := 0; i < len(messages); i += size {
		var b []byte
		for _, m := range messages[i:min(i+size, len(messages))] {
			b = append(append(strconv.AppendInt(b, int64(len(m)), 10), ' '), m...)
		}
		batches = append(batches, b)
	}
	ca, err := os.ReadFile(s.path("cert.pem"))
	if err != nil {
		return 0, 0, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	conn, err := tls.Dial("tcp", s.addr, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots})
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = conn.Close() }() // the receiver has closed it
	began := time.Now()
	for _, b := range batches {
		if _, err := conn.Write(b); err != nil {
			return 0, 0, err
		}
	}
	if err := conn.CloseWrite(); err != nil {
		return 0, 0, err
	}
	if _, err := bufio.NewReader(conn).ReadByte(); !errors.Is(err, io.EOF) {
		return 0, 0, fmt.Errorf("waiting for the receiver to have read all: %w", err)
	}
	return len(messages), time.Since(began), nil
}
