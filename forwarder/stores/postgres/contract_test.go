//go:build unix

package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/storetest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/pgtest"
)

func TestTheStoreKeepsItsContract(t *testing.T) {
	server := pgtest.Run(t, nil) // of its own: it is killed
	storetest.Run(t, func(t testing.TB) *storetest.Target { return contractTarget(t, server) }, storetest.Options{})
}

// contractTarget is a new schema, behind a proxy that can cut a connection.
func contractTarget(t testing.TB, server *pgtest.Server) *storetest.Target {
	schema := newSchema()
	proxy := newProxy(t, server.Port)
	t.Setenv("POSTGRES_TEST_PASSWORD", pgtest.Password)
	m := &Module{
		DSN:    fmt.Sprintf("postgres://%s:{env.POSTGRES_TEST_PASSWORD}@127.0.0.1:%d/postgres?sslmode=disable", pgtest.User, proxy.port),
		Schema: schema,
	}
	if err := m.Provision(noContext); err != nil {
		t.Fatal(err)
	}
	outside := func(sql string, args ...any) error {
		ctx := context.Background()
		conn, err := pgx.Connect(ctx, server.DSN(nil))
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, replaceSchema(sql, schema), args...)
		return errors.Join(err, conn.Close(ctx))
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	return &storetest.Target{
		Opener:      m,
		Credentials: []string{pgtest.Password, url.UserPassword("", pgtest.Password).String()},
		Documents: func() (docs [][]byte, err error) {
			ctx := context.Background()
			conn, err := pgx.Connect(ctx, server.DSN(nil))
			if err != nil {
				return nil, err
			}
			defer conn.Close(ctx)
			rows, err := conn.Query(ctx, replaceSchema(`SELECT coalesce(raw, convert_to(document::text, 'UTF8'))
				FROM {schema}.entry ORDER BY timestamp, id`, schema))
			if err != nil {
				return nil, err
			}
			return pgx.CollectRows(rows, pgx.RowTo[[]byte])
		},
		// An operator's own constraint.
		Refuse: func(text string) func() {
			must(outside(`ALTER TABLE {schema}.entry ADD CONSTRAINT refuse CHECK (position('` + strings.ReplaceAll(text, "'", "''") + `' IN document::text) = 0) NOT VALID`))
			return func() { must(outside(`ALTER TABLE {schema}.entry DROP CONSTRAINT refuse`)) }
		},
		Break: func() func() {
			must(server.Kill())
			return func() { must(server.Up()) }
		},
		// Another session that holds a lock.
		Slow: func(d time.Duration) func() {
			ctx := context.Background()
			conn, err := pgx.Connect(ctx, server.DSN(nil))
			must(err)
			_, err = conn.Exec(ctx, replaceSchema(`BEGIN; LOCK TABLE {schema}.entry IN EXCLUSIVE MODE`, schema), pgx.QueryExecModeSimpleProtocol)
			must(err)
			timer, ended, fast := time.NewTimer(d), make(chan struct{}), make(chan struct{})
			go func() {
				defer close(ended)
				select {
				case <-timer.C:
				case <-fast:
				}
				if err := conn.Close(ctx); err != nil {
					t.Error(err)
				}
			}()
			return func() {
				close(fast)
				<-ended
			}
		},
		Cut: func() { proxy.cutAfter(64 << 10) },
		// Entries of the suite have no stamp, so it is said by hand that they have expired.
		Prune: func(ids ...string) error {
			err := outside(`UPDATE {schema}.entry SET keep_until = timestamp + 1 WHERE id = ANY ($1)`, ids)
			if err != nil {
				return err
			}
			store, err := m.Open(context.Background(), nil)
			if err != nil {
				return err
			}
			for err == nil {
				var p forwarder.Pruned
				if p, err = store.(*Store).Prune(context.Background(), forwarder.Expiry{Now: time.Now()}); !p.More {
					break
				}
			}
			return errors.Join(err, store.Close())
		},
		Redact: func(id, text string) error {
			return outside(`UPDATE {schema}.entry SET document = replace(document::text, $2, '[erased]')::json, raw = NULL,
				redactions = '["actor.email"]' WHERE id = $1`, id, text)
		},
	}
}

// proxy stands between a store and its server.
type proxy struct {
	port  int
	left  atomic.Int64 // bytes to the server until the cut; negative: none is due
	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newProxy(t testing.TB, to int) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{port: l.Addr().(*net.TCPAddr).Port, conns: map[net.Conn]bool{}}
	p.left.Store(-1)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(to)))
			if err != nil {
				client.Close()
				continue
			}
			p.keep(client, true)
			p.keep(server, true)
			all.Go(func() { p.copy(server, client, true) })
			all.Go(func() { p.copy(client, server, false) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		all.Wait()
	})
	return p
}

func (p *proxy) cutAfter(n int64) { p.left.Store(n) }

func (p *proxy) keep(c net.Conn, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if open {
		p.conns[c] = true
	} else {
		delete(p.conns, c)
	}
}

func (p *proxy) copy(to, from net.Conn, toServer bool) {
	defer func() {
		to.Close()
		from.Close()
		p.keep(from, false)
	}()
	b := make([]byte, 16<<10)
	for {
		n, err := from.Read(b)
		if toServer && n > 0 && p.left.Load() >= 0 && p.left.Add(-int64(n)) < 0 {
			for _, c := range []net.Conn{to, from} {
				c.(*net.TCPConn).SetLinger(0) // a reset, not an end
			}
			return
		}
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
