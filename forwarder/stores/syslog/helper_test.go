package syslogstore

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const testInstance = "0198c0de-0000-7000-8000-000000000001"

// record returns entry n at revision 1, as the forwarder gives it to a store.
func record(t testing.TB, n, size int) forwarder.Record {
	t.Helper()
	e := &audit.Entry{
		ID: fmt.Sprintf("0198c0de-0000-7000-8000-%012d", n), Revision: audit.RevisionAnswer, Timestamp: 1_760_000_000_000_000 + int64(n),
		OrganizationSlug: "acme",
		Action: audit.Action{
			Code: "v1-update-function", Method: "PATCH", Route: "/v1/projects/{ref}", Host: "api.example.com",
			Path: "/v1/projects/" + strings.Repeat("x", size), Status: 200, StatusSource: audit.StatusWritten,
		},
		Outcome:       audit.OutcomeSuccess,
		Policy:        audit.Policy{Rule: "default", Level: audit.LevelMetadata, Durability: audit.DurabilityStrict},
		Origin:        &audit.Origin{Instance: testInstance, Sequence: uint64(n)},
		SchemaVersion: audit.SchemaVersion,
	}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return forwarder.Record{Sequence: uint64(n), Entry: e, JSON: b}
}

func records(t testing.TB, first, last int) (batch []forwarder.Record) {
	t.Helper()
	for n := first; n <= last; n++ {
		batch = append(batch, record(t, n, 200))
	}
	return batch
}

func documents(batch ...[]forwarder.Record) (all []string) {
	for _, b := range batch {
		for _, r := range b {
			all = append(all, string(r.JSON))
		}
	}
	return all
}

// open opens a store whose connections are proved quickly.
func open(t testing.TB, c Config) *Store {
	t.Helper()
	if c.probation == 0 {
		c.probation = 20 * time.Millisecond
	}
	s, err := Open(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func write(t testing.TB, s *Store, batch []forwarder.Record) {
	t.Helper()
	if err := s.Write(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}

// fails writes a batch that must come to nothing.
func fails(t testing.TB, s *Store) error {
	t.Helper()
	err := s.Write(t.Context(), records(t, 1, 3))
	if err == nil {
		t.Fatal("the batch was written")
	}
	if isRefused(err) {
		t.Errorf("it was refused: %v", err)
	}
	return err
}

func isRefused(err error) bool {
	var refused *forwarder.RefusedError
	return errors.As(err, &refused)
}

func mentions(t testing.TB, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not mention %q: %v", part, err)
		}
	}
}

// arrival is a message that a receiver has, and by which connection it came.
type arrival struct {
	from string // the host that it came from
	msg  []byte
}

// receiver is a syslog receiver over TLS inside of this process. It is no real one: it
// reads what RFC 5424, 5425 and 6587 allow and nothing else.
type receiver struct {
	t       testing.TB
	network string
	addr    string
	tls     *tls.Config // nil for none

	stop func()

	mu       sync.Mutex
	arrived  []arrival
	messages []message
	open     map[net.Conn]bool
	held     chan struct{} // not nil while nothing is read
	greet    []byte        // what each connection is told
	most     int           // the longest message that is taken; a longer one ends the connection
}

func newReceiver(t testing.TB, network, addr string, config *tls.Config) *receiver {
	t.Helper()
	r := &receiver{t: t, network: network, addr: addr, tls: config, open: map[net.Conn]bool{}}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

// start listens where it listened before.
func (r *receiver) start() {
	l, err := net.Listen(r.network, r.addr)
	if err != nil {
		r.t.Error(err)
		return
	}
	r.addr = l.Addr().String()
	var ended sync.WaitGroup
	r.stop = sync.OnceFunc(func() {
		l.Close()
		r.drop()
		ended.Wait()
	})
	ended.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.open[c] = true
			r.mu.Unlock()
			ended.Go(func() { r.serve(c) })
		}
	})
}

// drop closes all connections, with what is unread on them.
func (r *receiver) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.open {
		c.Close()
	}
	if r.held != nil {
		close(r.held)
		r.held = nil
	}
}

func (r *receiver) serve(raw net.Conn) {
	c := raw
	defer func() {
		c.Close()
		r.mu.Lock()
		delete(r.open, raw)
		r.mu.Unlock()
	}()
	if r.tls != nil {
		c = tls.Server(raw, r.tls)
	}
	r.mu.Lock()
	greet := r.greet
	r.mu.Unlock()
	if len(greet) > 0 {
		c.Write(greet)
	}
	for b := bufio.NewReader(c); ; {
		r.mu.Lock()
		held := r.held
		r.mu.Unlock()
		if held != nil {
			<-held
		}
		frame, err := readFrame(b)
		if err != nil {
			if _, torn := errors.AsType[*net.OpError](err); !torn && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				if _, alert := errors.AsType[tls.AlertError](err); !alert && !strings.Contains(err.Error(), "tls:") {
					r.t.Errorf("reading a message: %v", err)
				}
			}
			return
		}
		m, err := parse(frame)
		if err != nil {
			r.t.Errorf("a message is not as RFC 5424 has it: %v", err)
			return
		}
		r.mu.Lock()
		if r.most > 0 && len(frame) > r.most {
			r.mu.Unlock()
			return
		}
		host, _, _ := net.SplitHostPort(raw.RemoteAddr().String())
		r.arrived = append(r.arrived, arrival{host, m.msg})
		r.messages = append(r.messages, m)
		r.mu.Unlock()
	}
}

// hold lets it read nothing for a time, or until it is let go.
func (r *receiver) hold(d time.Duration) func() {
	held := make(chan struct{})
	r.mu.Lock()
	r.held = held
	r.mu.Unlock()
	letGo := func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.held == held {
			close(held)
			r.held = nil
		}
	}
	timer := time.AfterFunc(d, letGo)
	return func() {
		timer.Stop()
		letGo()
	}
}

func (r *receiver) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *receiver) arrivals() ([]arrival, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.arrived), nil
}

// texts are the documents that arrived, once there are so many.
func (r *receiver) texts(t testing.TB, n int) (all []string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		got, _ := r.arrivals()
		if len(got) >= n || time.Now().After(deadline) {
			for _, a := range got {
				all = append(all, string(a.msg))
			}
			return all
		}
	}
}

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

// pair is a certificate for 127.0.0.1, with its key, in PEM.
func (a *authority) pair(t testing.TB, change func(*x509.Certificate)) (cert, key []byte) {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	der, private := issue(t, a, template)
	b, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b})
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// config is that of a server with a certificate of the authority's. Clients may be nil.
func (a *authority) config(t testing.TB, change func(*x509.Certificate), clients *x509.CertPool) *tls.Config {
	t.Helper()
	cert, key := a.pair(t, change)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}}
	if clients != nil {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, clients
	}
	return c
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

// files has what TLS needs for both sides in files.
type files struct {
	ca, cert, key         string // the store's
	serverCert, serverKey string
	authority             *authority
	keyText               string // what of the store's key must be shown nowhere
	serverConfig          *tls.Config
}

func newFiles(t testing.TB) files {
	t.Helper()
	dir := t.TempDir()
	a := newAuthority(t)
	cert, key := a.pair(t, nil)
	serverCert, serverKey := a.pair(t, nil)
	pair, err := tls.X509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	return files{
		ca: save(t, filepath.Join(dir, "ca.pem"), a.pem()), cert: save(t, filepath.Join(dir, "cert.pem"), cert), key: save(t, filepath.Join(dir, "key.pem"), key),
		serverCert: save(t, filepath.Join(dir, "server.pem"), serverCert), serverKey: save(t, filepath.Join(dir, "server.key"), serverKey),
		authority: a, keyText: strings.Split(string(key), "\n")[1],
		serverConfig: &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool()},
	}
}
