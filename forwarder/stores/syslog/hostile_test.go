package syslogstore

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/caddy-audit-log/caddy-audit-log/internal/certtest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// serves does something with each connection, and closes it.
func serves(t testing.TB, do func(net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			do(c)
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-ended
	})
	return l.Addr().String()
}

// fit looks at an error that others had a say in.
func fit(t testing.TB, err error) {
	t.Helper()
	text := err.Error()
	if len(text) > 2000 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("the error is not fit for a log: %q", text)
	}
}

func TestWhatSomebodySaysWhoIsNoSyslogReceiverIsShownInPart(t *testing.T) {
	for name, said := range map[string]string{
		"HTTP":     "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
		"controls": "\x00\x1b[31mbad\xff\n\u202e" + strings.Repeat("x", 5000),
	} {
		t.Run(name, func(t *testing.T) {
			addr := serves(t, func(c net.Conn) {
				c.Read(make([]byte, 1<<16))
				io.WriteString(c, said)
				c.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, c)
			})
			err := fails(t, open(t, Config{URL: "tcp://" + addr, probation: time.Minute}))
			fit(t, err)
			mentions(t, err, "no syslog", strings.Fields(printable([]byte(said)))[0])
		})
	}
}

func TestAReceiverThatSendsWithoutEndIsNotListenedTo(t *testing.T) {
	addr := serves(t, func(c net.Conn) {
		for b := make([]byte, 4<<10); ; {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	})
	err := fails(t, open(t, Config{URL: "tcp://" + addr, probation: 10 * time.Second}))
	fit(t, err)
	mentions(t, err, "sends data")
}

func TestAReceiverThatSaysALittleIsWrittenTo(t *testing.T) {
	r := newReceiver(t, "tcp", ports.ForTest(t), nil)
	r.set(func() { r.greet = []byte("220 welcome\r\n") })
	s := open(t, Config{URL: "tcp://" + r.addr})
	a, b := records(t, 1, 3), records(t, 4, 5)
	write(t, s, a)
	write(t, s, b)
	same(t, "what arrived", documents(a, b), r.texts(t, 5))
}

func TestAPortThatDoesNotSpeakTLSIsNamedAsSuch(t *testing.T) {
	plain := serves(t, func(c net.Conn) { io.WriteString(c, "220 welcome\r\n") })
	err := fails(t, open(t, Config{URL: "tls://" + plain}))
	fit(t, err)
	mentions(t, err, "TLS")

	mute := serves(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	err = fails(t, open(t, Config{URL: "tls://" + mute, Timeout: time.Second}))
	fit(t, err)
	mentions(t, err, "not agreed on TLS within 1s")
}

func TestAReceiverThatReadsNothingIsNotWaitedForWithoutEnd(t *testing.T) {
	r := newReceiver(t, "tcp", ports.ForTest(t), nil)
	letGo := r.hold(time.Hour)
	s := open(t, Config{URL: "tcp://" + r.addr, Timeout: 300 * time.Millisecond, MaxMessage: NoMaxMessage})
	big := records(t, 1, 1)
	for n := 2; n < 20; n++ {
		big = append(big, record(t, n, 1<<20)) // more than the system takes for it
	}
	err := s.Write(t.Context(), big)
	mentions(t, err, "within 300ms", "longer timeout")
	if isRefused(err) {
		t.Errorf("it was refused: %v", err)
	}
	letGo()
	s.c.Timeout = 10 * time.Second
	write(t, s, big)
	if err := s.Close(); err != nil { // it has read all
		t.Error(err)
	}
	docs := r.texts(t, len(big))
	same(t, "the end of what arrived", documents(big), docs[len(docs)-len(big):])
}

func TestAContextEndsAWrite(t *testing.T) {
	r := newReceiver(t, "tcp", ports.ForTest(t), nil)
	letGo := r.hold(time.Hour)
	defer letGo()
	s := open(t, Config{URL: "tcp://" + r.addr, Timeout: time.Minute, MaxMessage: NoMaxMessage})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := s.Write(ctx, append(records(t, 1, 1), record(t, 2, 20<<20)))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	mute := serves(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := open(t, Config{URL: "tls://" + mute}).Write(ctx, records(t, 1, 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestACertificateThatDoesNotFitIsNamedWithItsCure(t *testing.T) {
	a, dir := certtest.NewAuthority(t), t.TempDir()
	ca := certtest.Save(t, filepath.Join(dir, "ca.pem"), a.PEM())
	named := newReceiver(t, "tcp", ports.ForTest(t), serverConfig(t, a, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"siem.internal"} }, nil))

	err := fails(t, open(t, Config{URL: "tls://" + newReceiver(t, "tcp", ports.ForTest(t), serverConfig(t, a, nil, nil)).addr}))
	fit(t, err)
	mentions(t, err, "tls ca")
	mentions(t, fails(t, open(t, Config{URL: "tls://" + named.addr, TLS: TLS{CA: ca}})), "server_name")
	s := open(t, Config{URL: "tls://" + named.addr, TLS: TLS{CA: ca, ServerName: "siem.internal"}})
	write(t, s, records(t, 1, 3))

	empty := certtest.Save(t, filepath.Join(dir, "empty.pem"), nil)
	mentions(t, fails(t, open(t, Config{URL: "tls://" + named.addr, TLS: TLS{CA: empty}})), "no certificate in PEM")
	mentions(t, fails(t, open(t, Config{URL: "tls://" + named.addr, TLS: TLS{CA: filepath.Join(dir, "none")}})), "tls ca")
	large := certtest.Save(t, filepath.Join(dir, "large.pem"), bytes.Repeat([]byte("x"), 1<<20+1))
	mentions(t, fails(t, open(t, Config{URL: "tls://" + named.addr, TLS: TLS{CA: large}})), "larger")
	mentions(t, fails(t, open(t, Config{URL: "tls://" + named.addr, TLS: TLS{CA: ca, Certificate: ca, Key: ca}})), "client_certificate")
}

// With TLS 1.3 a receiver says that it does not take a certificate after it has let us
// write.
func TestAReceiverThatDoesNotTakeOurCertificateAcknowledgesNothing(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			f := newFiles(t)
			f.serverConfig.MaxVersion = version
			r := newReceiver(t, "tcp", ports.ForTest(t), f.serverConfig)
			c := Config{URL: "tls://" + r.addr, TLS: TLS{CA: f.ca}, probation: time.Minute}
			s := open(t, c)
			for range 3 {
				err := fails(t, s)
				fit(t, err)
				mentions(t, err, "asks for a certificate")
			}
			stranger := certtest.NewAuthority(t)
			cert, key := stranger.Pair(t, nil)
			dir := t.TempDir()
			c.TLS.Certificate, c.TLS.Key = certtest.Save(t, filepath.Join(dir, "cert"), cert), certtest.Save(t, filepath.Join(dir, "key"), key)
			mentions(t, fails(t, open(t, c)), "check that it takes that of tls client_certificate")

			// A renewed one is found with the next connection.
			renewed := open(t, c)
			renewed.c.probation = 20 * time.Millisecond
			cert, key = f.authority.Pair(t, nil)
			certtest.Save(t, c.TLS.Certificate, cert)
			certtest.Save(t, c.TLS.Key, key)
			a := records(t, 1, 3)
			write(t, renewed, a)
			same(t, "what arrived", documents(a), r.texts(t, 3))
		})
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add([]byte("HTTP/1.1 400\r\n\x00\xff\u202e\ufffd"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := printable(b)
		if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) || len(s) > len(b) {
			t.Errorf("%q becomes %q", b, s)
		}
	})
}
