// Package tlsfiles is what stores know of TLS: the files of certificates that a
// configuration names, and the block of options that names them.
package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxFile bounds a file that is read, in bytes.
const maxFile = 1 << 20

// Files names files, in PEM. The zero value trusts whom the system trusts, and shows
// nothing.
type Files struct {
	// CA has the certificates that the other side's must come from. Default: those that
	// the system trusts.
	CA string `json:"ca,omitempty"`
	// Certificate is what this client shows to the other side. Default: none.
	//
	// Caddyfile: client_certificate <file> <key file>
	Certificate string `json:"certificate,omitempty"`
	// Key is the key of Certificate. Default: none.
	//
	// Caddyfile: client_certificate <file> <key file>
	Key string `json:"key,omitempty"`
	// ServerName is the name that the other side's certificate must have. Default: the
	// URL's host.
	ServerName string `json:"server_name,omitempty"`
}

// Check says what is wrong with the names.
func (f Files) Check() error {
	if (f.Certificate == "") != (f.Key == "") {
		return errors.New("a client certificate is two files: name that of the certificate and that of its key")
	}
	return nil
}

// Names are those that are not empty.
func (f Files) Names() (names []string) {
	for _, name := range []string{f.CA, f.Certificate, f.Key} {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

// Config reads the files. What it returns is the caller's. Its client certificate, which
// is read again for each connection, is shown to whoever asks for one.
func (f Files) Config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.ServerName}
	var err error
	if c.RootCAs, err = f.Authorities(); err != nil {
		return nil, err
	}
	if _, err := f.Pair(); err != nil { // sooner than at the first connection
		return nil, err
	}
	// Also when the other side names authorities of which this one is not: it may know
	// better when it sees it, and else its log says more than nothing.
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := f.Pair()
		return &pair, err
	}
	return c, nil
}

// Authorities reads CA. Nil is the system's.
func (f Files) Authorities() (*x509.CertPool, error) {
	if f.CA == "" {
		return nil, nil
	}
	pem, err := readFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("reading tls ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading tls ca %q: it has no certificate in PEM", f.CA)
	}
	return pool, nil
}

// Pair reads Certificate and Key. It is empty if there are none.
func (f Files) Pair() (pair tls.Certificate, err error) {
	if f.Certificate == "" {
		return pair, nil
	}
	cert, err := readFile(f.Certificate)
	if err != nil {
		return pair, fmt.Errorf("reading tls client_certificate: %w", err)
	}
	key, err := readFile(f.Key)
	if err != nil {
		return pair, fmt.Errorf("reading the key of tls client_certificate: %w", err)
	}
	if pair, err = tls.X509KeyPair(cert, key); err != nil {
		return pair, fmt.Errorf("reading tls client_certificate %q with its key %q: %w", f.Certificate, f.Key, err)
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
