package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// caddyfile is both servers': they differ in the lines that speak of
// audit_log and in nothing else.
const caddyfile = `{
	admin {$ADMIN_LISTEN}
	persist_config off
	skip_install_trust
	fallback_sni platform.example
	auto_https disable_redirects
	log {
		level ERROR
	}
	servers 127.0.0.1:%FILES% {
		timeouts {
			# With this limit Caddy copies files itself, and so it does where
			# it is told to speak "protocols h1" alone.
			write_idle -1s
		}
	}
	servers {
		protocols h1 h2 h2c h3
	}
%GLOBAL%}
(site) {
	bind 127.0.0.1
%SITE%	handle /gzip/* {
		encode gzip
		reverse_proxy %API%
	}
	handle /h2c/* {
		reverse_proxy h2c://%API2%
	}
	handle /flush/* {
		reverse_proxy %API% {
			flush_interval -1
		}
	}
	handle_path /files/* {
		root %ROOT%
		file_server
	}
	handle /limited/* {
		request_body {
			max_size 1KB
		}
		reverse_proxy %API%
	}
	handle /secured/* {
		basic_auth {
			somebody $2a$14$bbm6pOe6MSxrgfVaysQSz.yTB6b.qVCzfsQfyLbmoXf6AFtyGt/9.
		}
		reverse_proxy %API%
	}
	handle /nowhere/* {
		reverse_proxy 127.0.0.1:1
	}
	handle /elsewhere/* {
		redir https://elsewhere.example{uri} 308
	}
	handle /given/* {
		respond "given" 203
	}
	handle /refused/* {
		error 418
	}
	handle /caught/* {
		error 410
	}
	handle /moved/* {
		uri strip_prefix /moved
		rewrite * /rewritten{uri}
		reverse_proxy %API%
	}
	handle /nobody/* {
	}
	handle {
		reverse_proxy %API%
	}
	handle_errors 410 {
		respond "caught {err.status_code}" 599
	}
}
http://:{$PORT} {
	import site
}
http://:%FILES% {
	import site
}
https://:%TLS% {
	tls %DIR%/cert.pem %DIR%/key.pem
	import site
}
`

const (
	auditGlobal = `	audit_log {
		buffer {$AUDIT_DIR}/buffer
		store sqlite {$AUDIT_DIR}/audit.db
	}
`
	auditSite = "\taudit_log\n"
	// auditAll has everything on that looks at what passes.
	auditAll = `	audit_log {
		token robot prefix rb_
		credential cookie session
		credential query access_token
		issuer https://auth.example.com {
			jwks http://127.0.0.1:9/keys
		}
		profile http://127.0.0.1:9/profile
		answer_header user_id X-Audit-User-Id
		capture body name
		capture query q
		capture header X-Mine
		capture response name
	}
`
)

// server is one of the two, with the API behind it.
type server struct {
	target
	api   *api
	site  *rig.Site
	proc  *rig.Process
	ports []string
	ids   atomic.Int64 // how many Audit-Id fields were seen
	ours  bool         // it has audit_log
	stops []func()
}

// start starts a build in dir.
func start(ctx context.Context, setup rig.Setup, dir, root string, c *cert, auditSite string) (s *server, err error) {
	s = &server{ours: auditSite != ""}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if s.api, err = newAPI(); err != nil {
		return s, err
	}
	s.stops = append(s.stops, func() { _ = s.api.ln.Close() })
	api2, stop, err := serveH2C()
	if err != nil {
		return s, err
	}
	s.stops = append(s.stops, stop)
	free, err := ports.Free(2)
	if err != nil {
		return s, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return s, fmt.Errorf("making a server's directory: %w", err)
	}
	if err := c.write(dir); err != nil {
		return s, err
	}
	global, site := "", ""
	if auditSite != "" {
		global, site = auditGlobal, auditSite
	}
	text := strings.NewReplacer("%GLOBAL%", global, "%SITE%", site, "%FILES%", strconv.Itoa(free[0]), "%TLS%", strconv.Itoa(free[1]),
		"%API%", s.api.addr, "%API2%", api2, "%ROOT%", root, "%DIR%", dir).Replace(caddyfile)
	setup.Caddyfile = filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(setup.Caddyfile, []byte(text), 0o600); err != nil {
		return s, fmt.Errorf("writing a Caddyfile: %w", err)
	}
	// Go's HTTP/2 server offers extended CONNECT only when it is told to.
	setup.Env = append(setup.Env, "GODEBUG=http2xconnect=1")
	if s.site, err = rig.NewSite(setup, dir, s.api.addr); err != nil {
		return s, err
	}
	if s.proc, err = s.site.Start(ctx); err != nil {
		return s, err
	}
	s.stops = append(s.stops, func() { s.proc.Kill() })
	if err := s.proc.Ready(ctx, 30*time.Second); err != nil {
		return s, err
	}
	s.target = target{
		plain: s.site.Addr, tls: ports.Address(free[1]),
		files: ports.Address(free[0]), pool: newPool(c.roots),
	}
	s.stops = append(s.stops, s.pool.close)
	for _, addr := range []string{s.plain, s.tls, s.files, s.api.addr, api2} {
		_, port, _ := net.SplitHostPort(addr)
		s.ports = append(s.ports, port)
	}
	return s, s.listening(ctx, s.tls, s.files)
}

// listening waits for the listeners that the rig does not know.
func (s *server) listening(ctx context.Context, addrs ...string) error {
	for _, addr := range addrs {
		for deadline := time.Now().Add(patience); ; {
			nc, err := net.DialTimeout("tcp", addr, time.Second)
			if err == nil {
				_ = nc.Close()
				break
			}
			if time.Now().After(deadline) || ctx.Err() != nil {
				return fmt.Errorf("waiting for %s: %w; its last words:\n%s", addr, err, s.site.LastWords())
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return nil
}

// normalize takes out what only this server has, and counts our field.
func (s *server) normalize(notes []string) []string {
	notes = normalize(notes, s.ports)
	if s.ours {
		var n int
		notes, n = withoutAuditID(notes)
		s.ids.Add(int64(n))
	}
	return notes
}

func (s *server) stop() {
	for _, stop := range slices.Backward(s.stops) {
		stop()
	}
	s.stops = nil
}
