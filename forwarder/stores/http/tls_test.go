package httpstore

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{}
	cert, key := issue(t, a, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	var err error
	if a.cert, err = x509.ParseCertificate(cert); err != nil {
		t.Fatal(err)
	}
	a.key = key
	return a
}

func issue(t testing.TB, by *authority, template *x509.Certificate) (cert []byte, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent, signer := template, key
	if by.cert != nil {
		parent, signer = by.cert, by.key
	}
	cert, err = x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// pair is a certificate for a name or an address, with its key, in PEM.
func (a *authority) pair(t testing.TB, change func(*x509.Certificate)) (cert, key []byte) {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	der, private := issue(t, a, template)
	b, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: b})
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func save(t testing.TB, name string, b []byte) string {
	t.Helper()
	// A new file in the place of the old one, as whoever renews certificates does it.
	if err := os.WriteFile(name+".new", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
	return name
}

// serveTLS serves with what the authority issues.
func serveTLS(t testing.TB, h http.Handler, a *authority, change func(*x509.Certificate), clients *x509.CertPool) string {
	t.Helper()
	cert, key := a.pair(t, change)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	if clients != nil {
		srv.TLS.ClientAuth, srv.TLS.ClientCAs = tls.RequireAndVerifyClientCert, clients
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestHTTP2IsSpokenWithAReceiverThatDoes(t *testing.T) {
	a, r := newAuthority(t), new(receiver)
	url := serveTLS(t, r, a, nil, nil)
	ca := save(t, filepath.Join(t.TempDir(), "ca.pem"), a.pem())
	s := open(t, Config{URL: url, TLS: TLS{CA: ca}})
	batch := records(t, 1, 300)
	for range 3 {
		write(t, s, batch)
	}
	got := r.last(t)
	if got.ProtoMajor != 2 {
		t.Errorf("protocol %s", got.Proto)
	}
	if docs := array(t, got.plain(t)); len(docs) != len(batch) {
		t.Errorf("%d entries", len(docs))
	}
	from := map[string]bool{}
	for _, request := range r.requests() {
		from[request.RemoteAddr] = true
	}
	if len(from) != 1 {
		t.Errorf("%d connections", len(from))
	}
	for _, code := range []int{503, 401, 422, 307} {
		r.answer(status(code))
		if err := fails(t, s); isRefused(err) != (code == 422) {
			t.Errorf("%d: %v", code, err)
		}
	}
}

func TestACertificateThatIsNotTheReceiversIsNotTrusted(t *testing.T) {
	a := newAuthority(t)
	dir := t.TempDir()
	ca := save(t, filepath.Join(dir, "ca.pem"), a.pem())
	other := save(t, filepath.Join(dir, "other.pem"), newAuthority(t).pem())
	expired := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}
	named := func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"siem.example.com"} }
	for name, c := range map[string]struct {
		change func(*x509.Certificate)
		tls    TLS
		cure   string
	}{
		"another authority":    {nil, TLS{CA: other}, "tls ca"},
		"the system's":         {nil, TLS{}, "tls ca"},
		"expired":              {expired, TLS{CA: ca}, "check the receiver's certificate"},
		"another name":         {named, TLS{CA: ca}, "tls server_name"},
		"another name by hand": {named, TLS{CA: ca, ServerName: "other.example.com"}, "tls server_name"},
	} {
		t.Run(name, func(t *testing.T) {
			r := new(receiver)
			url := serveTLS(t, r, a, c.change, nil)
			err := fails(t, open(t, Config{URL: url, TLS: c.tls}))
			mentions(t, err, "certificate", c.cure)
			if isRefused(err) || len(r.requests()) > 0 {
				t.Errorf("%d requests, %v", len(r.requests()), err)
			}
		})
	}
	r := new(receiver)
	write(t, open(t, Config{URL: serveTLS(t, r, a, named, nil), TLS: TLS{CA: ca, ServerName: "siem.example.com"}}), records(t, 1, 1))
}

func TestAClientCertificateIsShownAndRenewedWithoutAReload(t *testing.T) {
	servers, clients, newClients := newAuthority(t), newAuthority(t), newAuthority(t)
	both := clients.pool()
	dir := t.TempDir()
	ca := save(t, filepath.Join(dir, "ca.pem"), servers.pem())
	r := new(receiver)
	url := serveTLS(t, r, servers, nil, both)

	mentions(t, fails(t, open(t, Config{URL: url, TLS: TLS{CA: ca}})), "client_certificate")

	cert, key := clients.pair(t, nil)
	c := TLS{CA: ca, Certificate: save(t, filepath.Join(dir, "c.pem"), cert), Key: save(t, filepath.Join(dir, "k.pem"), key)}
	s := open(t, Config{URL: url, TLS: c})
	write(t, s, records(t, 1, 1))
	if got := r.last(t).TLS.PeerCertificates; len(got) != 1 || got[0].Issuer.String() != clients.cert.Subject.String() {
		t.Errorf("peer certificates %v", got)
	}

	// The receiver changes whom it trusts; its old connection does not show that.
	strict := serveTLS(t, r, servers, nil, newClients.pool())
	s2 := open(t, Config{URL: strict, TLS: c})
	mentions(t, fails(t, s2), "client_certificate")
	cert, key = newClients.pair(t, nil)
	save(t, c.Key, key)
	mentions(t, fails(t, s2), c.Key) // half of the renewal
	save(t, c.Certificate, cert)
	write(t, s2, records(t, 1, 1))
}

func TestAnAuthorityIsReadAgainWhenItChanges(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	r := new(receiver)
	ca := save(t, filepath.Join(t.TempDir(), "ca.pem"), a.pem())
	s := open(t, Config{URL: serveTLS(t, r, b, nil, nil), TLS: TLS{CA: ca}})
	mentions(t, fails(t, s), "certificate")
	save(t, ca, b.pem())
	write(t, s, records(t, 1, 1))
	save(t, ca, []byte("nothing"))
	mentions(t, fails(t, s), ca, "no certificate")
	save(t, ca, []byte(strings.Repeat("x", maxFile+1)))
	mentions(t, fails(t, s), ca, "larger")
	os.Remove(ca)
	mentions(t, fails(t, s), ca)
	save(t, ca, b.pem())
	write(t, s, records(t, 1, 1))
}
