package postgres

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Config of a Store.
type Config struct {
	// DSN returns where the database is and who writes: a URL or keywords, as libpq
	// and pgx take them. It is asked before each connection, so that a credential that
	// has changed is found. Its error must hold none.
	DSN func() (string, error)
	// Schema has the tables; empty is DefaultSchema.
	Schema string
	// NoMigrate leaves making and changing the tables to another role. The schema must
	// have this build's version.
	NoMigrate bool
	// Timeout bounds everything that is asked of the server, a batch for instance.
	// Zero is DefaultTimeout.
	Timeout time.Duration
}

// The defaults of Config.
const (
	DefaultSchema  = "caddy_audit"
	DefaultTimeout = 30 * time.Second
)

// server is a database as a Store and a Reader know it.
type server struct {
	dsn      func() (string, error)
	schema   string
	timeout  time.Duration
	location string

	secretMu sync.Mutex
	secrets  []string // passwords that were in use, to be kept out of errors
}

// maxSecrets is how many passwords are remembered: an error of a connection that used
// the last one but two is long gone.
const maxSecrets = 4

func newServer(c Config) (*server, error) {
	s := &server{dsn: c.DSN, schema: c.Schema, timeout: c.Timeout}
	if s.schema == "" {
		s.schema = DefaultSchema
	}
	if s.timeout <= 0 {
		s.timeout = DefaultTimeout
	}
	if err := schemaName(s.schema); err != nil {
		return nil, fmt.Errorf("opening an audit store of PostgreSQL: schema %q: %w", s.schema, err)
	}
	p, err := s.parse()
	if err != nil {
		return nil, fmt.Errorf("opening an audit store of PostgreSQL: %w", err)
	}
	s.location = location(p, s.schema)
	return s, nil
}

// parse reads the DSN as it is now.
func (s *server) parse() (*pgx.ConnConfig, error) {
	dsn, err := s.dsn()
	if err != nil {
		return nil, err
	}
	c, err := parse(dsn)
	if err != nil {
		return nil, err
	}
	s.remember(c.Password)
	return c, nil
}

func (s *server) remember(secret string) {
	s.secretMu.Lock()
	defer s.secretMu.Unlock()
	if secret == "" || slices.Contains(s.secrets, secret) {
		return
	}
	s.secrets = append(s.secrets, secret)
	if n := len(s.secrets); n > maxSecrets {
		s.secrets = s.secrets[n-maxSecrets:]
	}
}

// config is what the next connection is made with. The destination of a store that is
// open does not change.
func (s *server) config() (*pgx.ConnConfig, error) {
	c, err := s.parse()
	if err != nil {
		return nil, err
	}
	if now := location(c, s.schema); now != s.location {
		return nil, fmt.Errorf("its DSN now names %s: reload the configuration, and say from where on the new store goes", now)
	}
	return c, nil
}

// connect makes a connection that can write.
func (s *server) connect(ctx context.Context) (*pgx.Conn, error) {
	c, err := s.config()
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, writes(c))
	if err != nil {
		return nil, err
	}
	if encoding := conn.PgConn().ParameterStatus("server_encoding"); encoding != "UTF8" {
		closeConn(conn)
		return nil, fmt.Errorf("its database has the encoding %s: create one with ENCODING 'UTF8'", encoding)
	}
	return conn, nil
}

// closeTimeout is how long a server may take to note that a connection ends.
const closeTimeout = time.Second

// closeConn ends a connection, and does not wait long for a server that hangs.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // it is of no use any more, whatever this says
}
