package natsstore

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
)

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{}
	der, key := a.issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.key = key
	return a
}

func (a *authority) issue(t testing.TB, template *x509.Certificate) (der []byte, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	if der, err = x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer); err != nil {
		t.Fatal(err)
	}
	return der, key
}

// pair is a certificate for names, and for 127.0.0.1 if there are none, with its key.
func (a *authority) pair(t testing.TB, names ...string) (cert, key []byte) {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "test"}, DNSNames: names,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if len(names) == 0 {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	der, private := a.issue(t, template)
	b, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: b})
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// encrypted serves with TLS. Set may ask for more.
func encrypted(t testing.TB, a *authority, set func(*natsd.Options), names ...string) (*natsServer, Config) {
	t.Helper()
	cert, key := a.pair(t, names...)
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
	c.TLS.CA = save(t, filepath.Join(t.TempDir(), "ca.pem"), a.pem())
	return s, c
}

func TestTLSIsVerified(t *testing.T) {
	a := newAuthority(t)
	_, c := encrypted(t, a, nil)
	write(t, open(t, c, nil), records(t, 1, 5))

	system := c
	system.TLS.CA = ""
	_, err := Open(t.Context(), system, nil)
	mentions(t, err, "check the servers' certificates")

	other := c
	other.TLS.CA = save(t, filepath.Join(t.TempDir(), "other.pem"), newAuthority(t).pem())
	_, err = Open(t.Context(), other, nil)
	mentions(t, err, "check the servers' certificates")

	none := c
	none.TLS.CA = save(t, filepath.Join(t.TempDir(), "none.pem"), []byte("no certificate"))
	_, err = Open(t.Context(), none, nil)
	mentions(t, err, "it has no certificate in PEM")
}

func TestTheNameInTheCertificateCounts(t *testing.T) {
	_, c := encrypted(t, newAuthority(t), nil, "nats.internal")
	_, err := Open(t.Context(), c, nil)
	mentions(t, err, "certificate")
	c.TLS.ServerName = "nats.internal"
	write(t, open(t, c, nil), records(t, 1, 5))
}

func TestTLSFirst(t *testing.T) {
	_, c := encrypted(t, newAuthority(t), func(o *natsd.Options) { o.TLSHandshakeFirst = true })
	c.TLS.First = true
	write(t, open(t, c, nil), records(t, 1, 5))
}

func TestAServerThatAsksForACertificateGetsOne(t *testing.T) {
	a := newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	s, c := encrypted(t, a, func(o *natsd.Options) {
		o.TLSVerify = true
		o.TLSConfig.ClientAuth, o.TLSConfig.ClientCAs = tls.RequireAndVerifyClientCert, pool
	})
	if _, err := Open(t.Context(), c, nil); err == nil {
		t.Error("it was opened without one")
	}
	dir := t.TempDir()
	cert, key := a.pair(t)
	c.TLS.Certificate, c.TLS.Key = save(t, filepath.Join(dir, "cert.pem"), cert), save(t, filepath.Join(dir, "key.pem"), key)
	st := open(t, c, nil)
	write(t, st, records(t, 1, 5))
	// One that was renewed is found by the next connection.
	cert, key = newAuthority(t).pair(t)
	save(t, c.TLS.Certificate, cert)
	save(t, c.TLS.Key, key)
	s.stop()
	s.start()
	time.Sleep(reconnectWait)
	if err := st.Write(t.Context(), records(t, 6, 9)); err == nil {
		t.Error("a certificate of somebody else was taken")
	}
	cert, key = a.pair(t)
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
