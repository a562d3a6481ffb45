package httpstore

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient/clienttest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/certtest"
)

func TestHTTP2IsSpokenWithAReceiverThatDoes(t *testing.T) {
	a, r := certtest.NewAuthority(t), new(receiver)
	url := clienttest.ServeTLS(t, r, a, nil, nil)
	ca := certtest.Save(t, filepath.Join(t.TempDir(), "ca.pem"), a.PEM())
	s := open(t, Config{URL: url, TLS: httpclient.TLS{CA: ca}})
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
		if err := fails(t, s); clienttest.IsRefused(err) != (code == 422) {
			t.Errorf("%d: %v", code, err)
		}
	}
}

func TestACertificateThatIsNotTheReceiversIsNotTrusted(t *testing.T) {
	a := certtest.NewAuthority(t)
	dir := t.TempDir()
	ca := certtest.Save(t, filepath.Join(dir, "ca.pem"), a.PEM())
	other := certtest.Save(t, filepath.Join(dir, "other.pem"), certtest.NewAuthority(t).PEM())
	expired := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}
	named := func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"siem.example.com"} }
	for name, c := range map[string]struct {
		change func(*x509.Certificate)
		tls    httpclient.TLS
		cure   string
	}{
		"another authority":    {nil, httpclient.TLS{CA: other}, "tls ca"},
		"the system's":         {nil, httpclient.TLS{}, "tls ca"},
		"expired":              {expired, httpclient.TLS{CA: ca}, "check the receiver's certificate"},
		"another name":         {named, httpclient.TLS{CA: ca}, "tls server_name"},
		"another name by hand": {named, httpclient.TLS{CA: ca, ServerName: "other.example.com"}, "tls server_name"},
	} {
		t.Run(name, func(t *testing.T) {
			r := new(receiver)
			url := clienttest.ServeTLS(t, r, a, c.change, nil)
			err := fails(t, open(t, Config{URL: url, TLS: c.tls}))
			clienttest.Mentions(t, err, "certificate", c.cure)
			if clienttest.IsRefused(err) || len(r.requests()) > 0 {
				t.Errorf("%d requests, %v", len(r.requests()), err)
			}
		})
	}
	r := new(receiver)
	write(t, open(t, Config{URL: clienttest.ServeTLS(t, r, a, named, nil), TLS: httpclient.TLS{CA: ca, ServerName: "siem.example.com"}}), records(t, 1, 1))
}

func TestAClientCertificateIsShownAndRenewedWithoutAReload(t *testing.T) {
	servers, clients, newClients := certtest.NewAuthority(t), certtest.NewAuthority(t), certtest.NewAuthority(t)
	both := clients.Pool()
	dir := t.TempDir()
	ca := certtest.Save(t, filepath.Join(dir, "ca.pem"), servers.PEM())
	r := new(receiver)
	url := clienttest.ServeTLS(t, r, servers, nil, both)

	clienttest.Mentions(t, fails(t, open(t, Config{URL: url, TLS: httpclient.TLS{CA: ca}})), "client_certificate")

	cert, key := clients.Pair(t, nil)
	c := httpclient.TLS{CA: ca, Certificate: certtest.Save(t, filepath.Join(dir, "c.pem"), cert), Key: certtest.Save(t, filepath.Join(dir, "k.pem"), key)}
	s := open(t, Config{URL: url, TLS: c})
	write(t, s, records(t, 1, 1))
	if got := r.last(t).TLS.PeerCertificates; len(got) != 1 || got[0].Issuer.String() != clients.Cert.Subject.String() {
		t.Errorf("peer certificates %v", got)
	}

	// The receiver changes whom it trusts; its old connection does not show that.
	strict := clienttest.ServeTLS(t, r, servers, nil, newClients.Pool())
	s2 := open(t, Config{URL: strict, TLS: c})
	clienttest.Mentions(t, fails(t, s2), "client_certificate")
	cert, key = newClients.Pair(t, nil)
	certtest.Save(t, c.Key, key)
	clienttest.Mentions(t, fails(t, s2), c.Key) // half of the renewal
	certtest.Save(t, c.Certificate, cert)
	write(t, s2, records(t, 1, 1))
}

func TestAnAuthorityIsReadAgainWhenItChanges(t *testing.T) {
	a, b := certtest.NewAuthority(t), certtest.NewAuthority(t)
	r := new(receiver)
	ca := certtest.Save(t, filepath.Join(t.TempDir(), "ca.pem"), a.PEM())
	s := open(t, Config{URL: clienttest.ServeTLS(t, r, b, nil, nil), TLS: httpclient.TLS{CA: ca}})
	clienttest.Mentions(t, fails(t, s), "certificate")
	certtest.Save(t, ca, b.PEM())
	write(t, s, records(t, 1, 1))
	certtest.Save(t, ca, []byte("nothing"))
	clienttest.Mentions(t, fails(t, s), ca, "no certificate")
	certtest.Save(t, ca, []byte(strings.Repeat("x", httpclient.MaxFile+1)))
	clienttest.Mentions(t, fails(t, s), ca, "larger")
	os.Remove(ca)
	clienttest.Mentions(t, fails(t, s), ca)
	certtest.Save(t, ca, b.PEM())
	write(t, s, records(t, 1, 1))
}
