package natsstore

import (
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"

	"github.com/caddy-audit-log/caddy-audit-log/internal/certtest"
)

// pair is a certificate for names, and for 127.0.0.1 if there are none, with its key.
func pair(t testing.TB, a *certtest.Authority, names ...string) (cert, key []byte) {
	t.Helper()
	return a.Pair(t, func(c *x509.Certificate) {
		if c.DNSNames = names; len(names) > 0 {
			c.IPAddresses = nil
		}
	})
}

// encrypted serves with TLS. Set may ask for more.
func encrypted(t testing.TB, a *certtest.Authority, set func(*natsd.Options), names ...string) (*natsServer, Config) {
	t.Helper()
	cert, key := pair(t, a, names...)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, func(o *natsd.Options) {
		o.TLS, o.TLSTimeout = true, 5
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		if set != nil {
			set(o)
		}
	})
	c := s.config()
	c.Servers = []string{"tls://" + s.addr()}
	c.TLS.CA = save(t, filepath.Join(t.TempDir(), "ca.pem"), a.PEM())
	return s, c
}

func TestTLSIsVerified(t *testing.T) {
	a := certtest.NewAuthority(t)
	_, c := encrypted(t, a, nil)
	write(t, open(t, c, nil), records(t, 1, 5))

	system := c
	system.TLS.CA = ""
	_, err := Open(t.Context(), system, nil)
	mentions(t, err, "check the servers' certificates")

	other := c
	other.TLS.CA = save(t, filepath.Join(t.TempDir(), "other.pem"), certtest.NewAuthority(t).PEM())
	_, err = Open(t.Context(), other, nil)
	mentions(t, err, "check the servers' certificates")

	none := c
	none.TLS.CA = save(t, filepath.Join(t.TempDir(), "none.pem"), []byte("no certificate"))
	_, err = Open(t.Context(), none, nil)
	mentions(t, err, "it has no certificate in PEM")
}

func TestTheNameInTheCertificateCounts(t *testing.T) {
	_, c := encrypted(t, certtest.NewAuthority(t), nil, "nats.internal")
	_, err := Open(t.Context(), c, nil)
	mentions(t, err, "certificate")
	c.TLS.ServerName = "nats.internal"
	write(t, open(t, c, nil), records(t, 1, 5))
}

func TestTLSFirst(t *testing.T) {
	_, c := encrypted(t, certtest.NewAuthority(t), func(o *natsd.Options) { o.TLSHandshakeFirst = true })
	c.TLS.First = true
	write(t, open(t, c, nil), records(t, 1, 5))
}

func TestAServerThatAsksForACertificateGetsOne(t *testing.T) {
	a := certtest.NewAuthority(t)
	s, c := encrypted(t, a, func(o *natsd.Options) {
		o.TLSVerify = true
		o.TLSConfig.ClientAuth, o.TLSConfig.ClientCAs = tls.RequireAndVerifyClientCert, a.Pool()
	})
	if _, err := Open(t.Context(), c, nil); err == nil {
		t.Error("it was opened without one")
	}
	dir := t.TempDir()
	cert, key := pair(t, a)
	c.TLS.Certificate, c.TLS.Key = save(t, filepath.Join(dir, "cert.pem"), cert), save(t, filepath.Join(dir, "key.pem"), key)
	st := open(t, c, nil)
	write(t, st, records(t, 1, 5))
	// One that was renewed is found by the next connection.
	cert, key = pair(t, certtest.NewAuthority(t))
	save(t, c.TLS.Certificate, cert)
	save(t, c.TLS.Key, key)
	s.stop()
	s.start()
	time.Sleep(reconnectWait)
	if err := st.Write(t.Context(), records(t, 6, 9)); err == nil {
		t.Error("a certificate of somebody else was taken")
	}
	cert, key = pair(t, a)
	save(t, c.TLS.Certificate, cert)
	save(t, c.TLS.Key, key)
	deliver(t, st, records(t, 6, 9))
}

func TestTLSIsNotTakenAway(t *testing.T) {
	s := serve(t, nil)
	c := s.config()
	c.Servers = []string{"tls://" + s.addr()}
	_, err := Open(t.Context(), c, nil)
	mentions(t, err, "the server has no TLS")
	// Nor by a server that says so on the way to another one.
	c = s.config()
	c.TLS.ServerName = "nats.internal"
	_, err = Open(t.Context(), c, nil)
	mentions(t, err, "the server has no TLS")
}
