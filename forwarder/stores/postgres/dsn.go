package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// connectTimeout is how long a connection to one host may take, where the DSN does not
// say it by connect_timeout.
const connectTimeout = 10 * time.Second

// variable is a placeholder that a part of a DSN may come from.
var variable = regexp.MustCompile(`\{(env\.[A-Za-z_][A-Za-z0-9_]*|file\.[^{}]+)\}`)

// errLiteralPassword says how a password is given. It does not say which one it was.
var errLiteralPassword = errors.New("its password stands in the configuration, which Caddy saves and shows: " +
	"give the whole DSN as {env.AUDIT_DSN} or {file./run/secrets/dsn}, or the password alone as password={env.PGPASS}, " +
	"or name a passfile or a client certificate")

// masked is the DSN with letters in the place of its placeholders, so that every byte
// keeps its place and nothing in a placeholder is taken for syntax.
func masked(dsn string) string {
	return variable.ReplaceAllStringFunc(dsn, func(p string) string { return strings.Repeat("x", len(p)) })
}

func isURL(dsn string) bool {
	return strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
}

// checkDSN refuses a DSN with a password that is not a placeholder.
func checkDSN(dsn string) error {
	mask := masked(dsn)
	if !isURL(dsn) {
		return checkKeywords(dsn, mask)
	}
	userinfo, query := urlParts(mask)
	if i := strings.IndexByte(mask[userinfo.from:userinfo.to], ':'); i >= 0 {
		if !given(dsn[userinfo.from+i+1 : userinfo.to]) {
			return errLiteralPassword
		}
	}
	for from := query.from; from < query.to; {
		to := query.to
		if i := strings.IndexByte(mask[from:to], '&'); i >= 0 {
			to = from + i
		}
		name, _, _ := strings.Cut(mask[from:to], "=")
		plain, err := url.QueryUnescape(name)
		if err != nil {
			plain = "password" // who knows
		}
		if isPassword(plain) && !given(strings.TrimPrefix(dsn[from+len(name):to], "=")) {
			return errLiteralPassword
		}
		from = to + 1
	}
	return nil
}

var keyword = regexp.MustCompile(`(?i)password\s*=\s*`)

// checkKeywords takes every "password=" for one, also within another value.
func checkKeywords(dsn, mask string) error {
	for _, at := range keyword.FindAllStringIndex(mask, -1) {
		value := dsn[at[1]:]
		if quoted, ok := strings.CutPrefix(value, "'"); ok {
			end := strings.IndexByte(quoted, '\'')
			if end < 0 || !given(quoted[:end]) || strings.HasSuffix(quoted[:end], `\`) {
				return errLiteralPassword
			}
			continue
		}
		if p := variable.FindStringIndex(value); p != nil && p[0] == 0 {
			value = value[p[1]:]
		}
		if value != "" && !strings.ContainsRune(" \t\n\r\v\f", rune(value[0])) {
			return errLiteralPassword
		}
	}
	return nil
}

func isPassword(name string) bool { return strings.HasSuffix(strings.ToLower(name), "password") }

// given reports whether a password is absent or one placeholder.
func given(value string) bool {
	return value == "" || variable.FindString(value) == value
}

// span is a part of a DSN.
type span struct{ from, to int }

func (s span) has(at int) bool { return at >= s.from && at < s.to }

// urlParts finds the userinfo, which as libpq reads it ends at the first @ that no slash
// comes before, and the query.
func urlParts(mask string) (userinfo, query span) {
	begin := strings.Index(mask, "://") + 3
	if i := strings.IndexAny(mask[begin:], "@/"); i >= 0 && mask[begin+i] == '@' {
		userinfo = span{begin, begin + i}
	}
	rest := max(begin, userinfo.to)
	if i := strings.IndexByte(mask[rest:], '?'); i >= 0 {
		query = span{rest + i + 1, len(mask)}
	}
	return userinfo, query
}

// expand puts the values of the placeholders into their places, escaped as these need
// it: a password may hold any character. A DSN that is one placeholder is its value.
func expand(dsn string, value func(placeholder string) (string, error)) (string, error) {
	if dsn != "" && variable.FindString(dsn) == dsn {
		v, err := value(dsn)
		return strings.TrimSpace(v), err
	}
	userinfo, query := span{}, span{}
	if isURL(dsn) {
		userinfo, query = urlParts(masked(dsn))
	}
	var b strings.Builder
	copied := 0
	for _, at := range variable.FindAllStringIndex(dsn, -1) {
		v, err := value(dsn[at[0]:at[1]])
		if err != nil {
			return "", err
		}
		switch {
		case !isURL(dsn):
			v = escapeKeyword.Replace(v)
		case userinfo.has(at[0]), query.has(at[0]):
			v = strings.ReplaceAll(url.QueryEscape(v), "+", "%20")
		}
		b.WriteString(dsn[copied:at[0]])
		b.WriteString(v)
		copied = at[1]
	}
	b.WriteString(dsn[copied:])
	return b.String(), nil
}

var escapeKeyword = strings.NewReplacer(`\`, `\\`, `'`, `\'`, " ", `\ `, "\t", "\\\t", "\n", "\\\n", "\r", "\\\r", "\v", "\\\v", "\f", "\\\f")

// parse reads an expanded DSN. Its errors quote none of it, since what is malformed may
// be the password: only files that it names are shown.
func parse(dsn string) (*pgx.ConnConfig, error) {
	c, err := pgx.ParseConfig(dsn)
	var file *fs.PathError
	switch {
	case errors.As(err, &file) && !unlikePath.MatchString(file.Path):
		return nil, fmt.Errorf("reading what its DSN names: %s %q: %w", file.Op, file.Path, file.Err)
	case err != nil, !plausible(c):
		return nil, errors.New("its DSN cannot be read: it is a URL, as in postgres://audit@db.example.com:5432/audit?sslmode=verify-full, " +
			"or keywords, as in host=db.example.com user=audit dbname=audit sslmode=verify-full; " +
			"check ports, sslmode, the files that it names, and that @ : / ? # % of a password in a URL are percent-encoded")
	}
	if !namesTLS(dsn) && slices.ContainsFunc(hosts(c), func(h host) bool { return !h.local() }) {
		return nil, errors.New("its DSN does not say sslmode, and its host is not this machine: add sslmode=verify-full, " +
			"with sslrootcert=FILE for an authority of your own; sslmode=require checks no certificate and disable sends entries in clear text")
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	dialer := &net.Dialer{
		Timeout:         c.ConnectTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	c.DialFunc = dialer.DialContext
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "caddy-audit-log"
	}
	c.RuntimeParams["client_encoding"] = "UTF8"
	// Nothing is prepared under a name: it would not survive a pooler that gives each
	// transaction another connection, and a plan that is kept fits no bounds of time.
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	c.StatementCacheCapacity, c.DescriptionCacheCapacity = 0, 0
	return c, nil
}

// plausible reports whether hosts and database look like what they are. A password with
// an @ or a slash that is not encoded ends early, and its rest would be shown as one of
// them.
func plausible(c *pgx.ConnConfig) bool {
	return !strings.ContainsAny(c.Database, "@/:") &&
		!slices.ContainsFunc(hosts(c), func(h host) bool { return !hostName.MatchString(h.name) })
}

var hostName = regexp.MustCompile(`^([/@]?[A-Za-z0-9._%-][A-Za-z0-9._%/-]*|[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?)$`)

// unlikePath is what a path has not, but what is quoted wrongly may have.
var unlikePath = regexp.MustCompile(`(?i)password|[\s@:=?&%'"]`)

// namesTLS reports whether somebody has said which sslmode is meant.
func namesTLS(dsn string) bool {
	return strings.Contains(dsn, "sslmode") || strings.Contains(dsn, "ssl=") || strings.Contains(dsn, "service") ||
		os.Getenv("PGSSLMODE") != "" || os.Getenv("PGSERVICE") != ""
}

// host is one that a DSN names.
type host struct {
	name string
	port uint16
}

func (h host) String() string {
	if strings.HasPrefix(h.name, "/") || strings.HasPrefix(h.name, "@") {
		return h.name + ":" + strconv.Itoa(int(h.port))
	}
	return net.JoinHostPort(h.name, strconv.Itoa(int(h.port)))
}

func (h host) local() bool {
	ip := net.ParseIP(h.name)
	return strings.HasPrefix(h.name, "/") || strings.HasPrefix(h.name, "@") || h.name == "localhost" || ip != nil && ip.IsLoopback()
}

// hosts are all that are tried, in their order and each once.
func hosts(c *pgx.ConnConfig) []host {
	all := []host{{c.Host, c.Port}}
	for _, f := range c.Fallbacks {
		if h := (host{f.Host, f.Port}); !slices.Contains(all, h) {
			all = append(all, h)
		}
	}
	return all
}

// location is where the entries go, without who writes them and how.
func location(c *pgx.ConnConfig, schema string) string {
	var names []string
	for _, h := range hosts(c) {
		names = append(names, h.String())
	}
	database := c.Database
	if database == "" {
		database = c.User // PostgreSQL's own default
	}
	return strings.Join(names, ",") + "/" + database + "." + schema
}

// writes makes connections that can write the only ones that are taken: of several
// hosts the primary, and of one host behind a name that moves, not its standby.
func writes(c *pgx.ConnConfig) *pgx.ConnConfig {
	c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	return c
}
