//go:build servers

package page

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard" // the Caddy that users have
	"github.com/google/uuid"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	_ "github.com/caddy-audit-log/caddy-audit-log/caddymodule" // what is tested
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/sqlite"
	"github.com/caddy-audit-log/caddy-audit-log/internal/sample"
)

const (
	entries       = 20_000
	organizations = 200
	span          = 30 * 24 * time.Hour

	secretName = "AUDIT_PAGE_SECRET"
	issuer     = "https://auth.example.com"
	cookie     = "session"
)

const caddyfile = `{
	admin unix/%DIR%/admin.sock|0600
	persist_config off
	storage file_system %DIR%/storage
	log {
		level ERROR
	}
	audit_log {
		buffer %DIR%/buffer
		store sqlite %DIR%/audit.db
		keep {
			default 400d
			unattributed 30d
		}
		readable {
			free pro none
			team 62d
			enterprise 366d
		}
	}
}

http://:%PORT% {
	bind 127.0.0.1
	audit_log {
		platform supabase
		issuer ` + issuer + ` {
			audience authenticated
			secret {env.` + secretName + `}
		}
	}
	reverse_proxy %API%
}

http://:%VIEWER% {
	bind 127.0.0.1
	audit_log_viewer {
		members ask http://%API%/v1/organizations/{slug}
		cookie ` + cookie + `
		operators email ` + operatorEmail + `
		max_range 366d
		sign_in_url https://dashboard.example.com/sign-in
		upgrade_url https://dashboard.example.com/billing
	}
}
`

// server is a real Caddy in this process: a sidecar before an API, and the page.
type server struct {
	dir    string
	api    *httptest.Server
	calls  string // where the sidecar listens
	url    string // of the page
	secret []byte

	// of has what was put into the store, by the organization's id, oldest first, as
	// members are shown it.
	of map[string][]*audit.Entry
	// gap is when half an hour ended in which calls passed unrecorded.
	gap time.Time
}

func startServer() (s *server, err error) {
	s = &server{of: map[string][]*audit.Entry{}, api: httptest.NewServer(http.HandlerFunc(platform))}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	if s.dir, err = os.MkdirTemp("", "audit-page-"); err != nil { // a short path: it holds a socket
		return s, err
	}
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails
	s.secret = []byte(hex.EncodeToString(secret[:]))
	if err := os.Setenv(secretName, string(s.secret)); err != nil {
		return s, err
	}
	if err := s.fill(); err != nil {
		return s, err
	}
	ports, err := freePorts(2)
	if err != nil {
		return s, err
	}
	s.calls, s.url = "http://127.0.0.1:"+ports[0], "http://127.0.0.1:"+ports[1]
	text := strings.NewReplacer("%DIR%", s.dir, "%PORT%", ports[0], "%VIEWER%", ports[1], "%API%", s.api.Listener.Addr().String()).Replace(caddyfile)
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return s, err
	}
	return s, caddy.Load(config, true)
}

func (s *server) stop() error {
	err := caddy.Stop()
	s.api.Close()
	return errors.Join(err, s.released(), os.RemoveAll(s.dir))
}

// released waits until nobody holds the buffer: it is closed a moment after Caddy has stopped.
func (s *server) released() error {
	lock, err := os.Open(filepath.Join(s.dir, "buffer", "LOCK"))
	if errors.Is(err, os.ErrNotExist) {
		return nil // it was never open
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) { // between two looks
		if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil || time.Now().After(end) {
			return err
		}
	}
}

// freePorts are of this machine, each another one.
func freePorts(n int) (ports []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
	}
	return ports, nil
}

// fill puts a month of many organizations into the store, and what tests look for besides.
func (s *server) fill() (err error) {
	ctx := context.Background()
	store, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(s.dir, "audit.db")}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	to := sample.Writer{Store: store, Instance: uuid.NewString()}
	add := func(e *audit.Entry, stamp *audit.Stamp) error {
		written, err := to.Add(ctx, e, stamp)
		if err != nil {
			return err
		}
		shown := *written.Attempt()
		s.of[shown.OrganizationID] = append(s.of[shown.OrganizationID], &shown)
		return nil
	}
	until := time.Now().Add(-time.Minute)
	for e, stamp := range sample.Entries(sample.Options{Organizations: organizations, Entries: entries, Until: until, Span: span, Seed: 1}) {
		if err := add(e, stamp); err != nil {
			return err
		}
	}
	for _, p := range planted(until) {
		if err := add(p.entry, p.stamp); err != nil {
			return err
		}
	}
	s.gap = until.Add(-9 * 24 * time.Hour).Truncate(time.Second)
	if err := add(audit.Event(audit.EventGap, s.gap, map[string]any{
		"reason": "passed", "count": 12345, "since": s.gap.Add(-30 * time.Minute).UTC().Format(time.RFC3339Nano), "until": s.gap.UTC().Format(time.RFC3339Nano),
	}), &audit.Stamp{}); err != nil {
		return err
	}
	// So that nobody waits for that buffer.
	if err := add(audit.Event(audit.EventStopped, until, nil), &audit.Stamp{}); err != nil {
		return err
	}
	return to.Flush(ctx)
}
