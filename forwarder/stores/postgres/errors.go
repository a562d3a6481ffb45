package postgres

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// maxErrorText bounds what a server may say in an error, in bytes.
const maxErrorText = 1000

// failure is an error of PostgreSQL or on the way to it, as text that holds no
// credential. What it was made from is not kept, since that may hold one: pgx's errors
// have the whole configuration.
type failure struct {
	text string
	// cause is ctx's error if that ended it.
	cause error
}

// Error implements error.
func (f *failure) Error() string { return f.text }

// Unwrap returns what a caller may ask for.
func (f *failure) Unwrap() error { return f.cause }

// failing makes the error of what was being done, with the cure where PostgreSQL's own
// text has none. A batch that was refused for what is in it is a *RefusedError.
func (s *server) failing(doing string, err error) error {
	if err == nil {
		return nil
	}
	f := &failure{}
	for _, ended := range []error{context.Canceled, context.DeadlineExceeded, errClosed, forwarder.ErrUnprepared} {
		if errors.Is(err, ended) {
			f.cause = ended
			break
		}
	}
	text := strings.NewReplacer("\n\t", " ", "\n", " ").Replace(s.scrub(err.Error()))
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "…"
	}
	f.text = doing + " audit store " + s.location + ": " + text
	if cure := s.cure(err); cure != "" {
		f.text += ": " + cure
	}
	if refused(err) {
		return &forwarder.RefusedError{Err: f}
	}
	return f
}

// scrub takes the credentials out of a text: a server may say anything.
func (s *server) scrub(text string) string {
	s.secretMu.Lock()
	defer s.secretMu.Unlock()
	for _, secret := range s.secrets {
		for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret), url.UserPassword("", secret).String()[1:]} {
			text = strings.ReplaceAll(text, form, "***")
		}
	}
	return text
}

// errClosed is what is done to a store after Close.
var errClosed = errors.New("it is closed")

// refusal is an entry that this store cannot take, whatever the server says.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

// refused reports whether the server has understood a batch and refuses what is in it:
// data exceptions, constraints, and limits of what a row may be. All else is the
// server's state, or who may do what there, and changes.
func refused(err error) bool {
	if _, ok := errors.AsType[*refusal](err); ok {
		return true
	}
	switch code := sqlState(err); {
	case strings.HasPrefix(code, "22"), strings.HasPrefix(code, "23"), strings.HasPrefix(code, "54"):
		return true
	}
	return false
}

func sqlState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// cure is what to do about an error, as the end of a message.
func (s *server) cure(err error) string {
	code := sqlState(err)
	for n := len(code); n >= 2; n -= 3 {
		if cure, ok := cures[code[:n]]; ok {
			return cure
		}
	}
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case code != "":
		return ""
	case errors.As(err, &authority):
		return "name the file of its authority's certificate by sslrootcert in the DSN"
	case errors.As(err, &name):
		return "name the host in the DSN as its certificate does"
	case errors.Is(err, pgconn.ErrReadOnlyConnection):
		return "it is a standby or read-only: name the primary's host too, separated by a comma"
	case errors.Is(err, context.DeadlineExceeded):
		return "it did not answer in time: check that it runs and what it waits for, in pg_stat_activity"
	case strings.Contains(err.Error(), "server refused TLS connection"):
		return "set ssl = on there, or sslmode=disable in the DSN if nobody is between"
	case errors.As(err, &dns):
		return "check the host in the DSN"
	case errors.As(err, &op) && op.Op == "dial":
		return "check that it runs, and the host and port in the DSN"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &op):
		return "the connection broke: it was stopped or restarted, or something between ended it"
	}
	return ""
}

// cures are by SQLSTATE, or its class.
var cures = map[string]string{
	"22P05": "its database must have the encoding UTF8",
	"25006": "it is a standby or read-only: name the primary's host too, separated by a comma",
	"28":    "check the user and password that the DSN's placeholder gives, and the server's pg_hba.conf",
	"3D000": "create the database, or name another in the DSN",
	"3F000": "let a server start once without \"migrate off\", or check the option schema",
	"40":    "another transaction was in the way; it is tried again",
	"42501": "give the DSN's role what docs/postgres.md grants to it",
	"42P01": "let a server start once without \"migrate off\", as the role that owns the tables",
	"42883": "let a server start once without \"migrate off\", as the role that owns the tables",
	"53100": "free some space on its disk",
	"53300": "raise its max_connections, or end connections",
	"55P03": "another session holds a lock: find it in pg_stat_activity",
	"57014": "it took too long: see what it waits for in pg_stat_activity, or raise the option timeout",
	"57P01": "it is being stopped",
	"57P03": "it is starting or stopping",
}
