package syslogstore

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/certtest"
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
	forgetLegacies(addr)
	r := &receiver{t: t, network: network, addr: addr, tls: config, open: map[net.Conn]bool{}}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

// forgetLegacies forgets what a store of another test has left for an address that is given
// out again.
func forgetLegacies(addr string) {
	for _, scheme := range []string{"tcp://", "tls://"} {
		legacies.take(scheme + addr)
	}
}

// start listens where it listened before.
func (r *receiver) start() {
	l, err := net.Listen(r.network, r.addr)
	if err != nil {
		r.t.Error(err)
		return
	}
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
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		got, _ := r.arrivals()
		if len(got) >= n || time.Now().After(deadline) {
			for _, a := range got {
				all = append(all, string(a.msg))
			}
			return all
		}
	}
}

// awaits are the documents that arrived, repeats too, once all of some have.
func (r *receiver) awaits(t testing.TB, want []string) []string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		got := r.texts(t, 0)
		missing := slices.ContainsFunc(want, func(doc string) bool { return !slices.Contains(got, doc) })
		if !missing || time.Now().After(deadline) {
			return got
		}
	}
}

// config is that of a server with a certificate of the authority's. Clients may be nil.
func serverConfig(t testing.TB, a *certtest.Authority, change func(*x509.Certificate), clients *x509.CertPool) *tls.Config {
	t.Helper()
	cert, key := a.Pair(t, change)
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

// files has what TLS needs for both sides in files.
type files struct {
	ca, cert, key         string // the store's
	serverCert, serverKey string
	authority             *certtest.Authority
	keyText               string // what of the store's key must be shown nowhere
	serverConfig          *tls.Config
}

func newFiles(t testing.TB) files {
	t.Helper()
	dir := t.TempDir()
	a := certtest.NewAuthority(t)
	cert, key := a.Pair(t, nil)
	serverCert, serverKey := a.Pair(t, nil)
	pair, err := tls.X509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	return files{
		ca: certtest.Save(t, filepath.Join(dir, "ca.pem"), a.PEM()), cert: certtest.Save(t, filepath.Join(dir, "cert.pem"), cert), key: certtest.Save(t, filepath.Join(dir, "key.pem"), key),
		serverCert: certtest.Save(t, filepath.Join(dir, "server.pem"), serverCert), serverKey: certtest.Save(t, filepath.Join(dir, "server.key"), serverKey),
		authority: a, keyText: strings.Split(string(key), "\n")[1],
		serverConfig: &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.Pool()},
	}
}
