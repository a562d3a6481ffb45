package natsstore

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
)

// maxFile bounds a file that is read, in bytes.
const maxFile = 1 << 20

// TLS names files, in PEM. They are read again each time that the store connects.
type TLS struct {
	// CA has the certificates that the servers' must come from. Empty is those that
	// the system trusts.
	CA string `json:"ca,omitempty"`
	// Certificate and Key are what this client shows to a server.
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`
	// ServerName is the name that the servers' certificates must have. Empty is each
	// URL's host.
	ServerName string `json:"server_name,omitempty"`
	// First begins with TLS and lets the server speak afterwards, as servers do that are
	// set to handshake_first.
	First bool `json:"first,omitempty"`
}

// authorities reads CA.
func (t TLS) authorities() (*x509.CertPool, error) {
	if t.CA == "" {
		return nil, nil // the system's
	}
	pem, err := readFile(t.CA)
	if err != nil {
		return nil, fmt.Errorf("reading tls ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading tls ca %q: it has no certificate in PEM", t.CA)
	}
	return pool, nil
}

// certificate reads Certificate and Key.
func (t TLS) certificate() (tls.Certificate, error) {
	cert, err := readFile(t.Certificate)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("reading tls client_certificate: %w", err)
	}
	key, err := readFile(t.Key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("reading the key of tls client_certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("reading tls client_certificate %q with its key %q: %w", t.Certificate, t.Key, err)
	}
	return pair, nil
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
