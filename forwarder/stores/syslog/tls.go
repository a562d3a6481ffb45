package syslogstore

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"sync/atomic"
)

// maxFile bounds a certificate's file, in bytes.
const maxFile = 1 << 20

// load reads the files. Asked is set when the receiver asks for a certificate.
func (t TLS) load(host string, asked *atomic.Bool) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if c.ServerName == "" {
		c.ServerName = host
	}
	if t.CA != "" {
		pem, err := readFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("reading tls ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading tls ca %q: it has no certificate in PEM", t.CA)
		}
	}
	shown := new(tls.Certificate)
	if t.Certificate != "" {
		cert, err := readFile(t.Certificate)
		if err != nil {
			return nil, fmt.Errorf("reading tls client_certificate: %w", err)
		}
		key, err := readFile(t.Key)
		if err != nil {
			return nil, fmt.Errorf("reading the key of tls client_certificate: %w", err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("reading tls client_certificate %q with its key %q: %w", t.Certificate, t.Key, err)
		}
		shown = &pair
	}
	// Also when it names authorities of which this one is not: it may know better when it
	// sees it, and else its log says more than nothing.
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked.Store(true)
		return shown, nil
	}
	return c, nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%q is larger than %d bytes: name another file", name, maxFile)
	}
	return b, err
}
