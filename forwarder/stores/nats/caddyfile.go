package natsstore

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/placeholder"
)

func init() {
	caddy.RegisterModule(new(Module))
}

// Module is the audit store "nats": each entry is published to a stream of NATS
// JetStream and is written when the stream has acknowledged it. Its delivery is at least
// once; within a stream's duplicate window repeats are kept out.
//
// Placeholders are {env.NAME} and {file.PATH}. They and the files are read each time
// that the store connects, so that a credential that was renewed is found; that of nkey
// when the store is opened.
type Module struct {
	// Servers are the URLs of the cluster's servers, nats:// or tls://, whose hosts are
	// written out. The first one is what the destination is known by: others can be added
	// and taken out, and only those that are named are connected to. A user and a
	// password in them are placeholders and for all servers. Required.
	//
	// Caddyfile: store nats <url...>
	Servers []string `json:"servers"`
	// Stream is what the streams' names begin with; that of a retention class is called
	// STREAM_CLASS. Default: AUDIT.
	Stream string `json:"stream,omitempty"`
	// Subject is what subjects begin with; an entry's is SUBJECT.CLASS.INSTANCE. Default:
	// audit.
	Subject string `json:"subject,omitempty"`
	// Domain is the JetStream domain of the streams. Default: that of the server.
	Domain string `json:"domain,omitempty"`
	// Create is on or off: whether streams that are missing are created. One that exists
	// is never changed. Default: on.
	Create string `json:"create,omitempty"`
	// Replicas of a stream that is created, 1 to 5. A server that is in no cluster takes
	// 1 only. Default: 3.
	Replicas int `json:"replicas,omitempty"`
	// MaxAge is how long a stream that is created keeps entries, by retention class; that
	// of the class "" is for all others. An hour at least. Default: for ever.
	MaxAge map[string]caddy.Duration `json:"max_age,omitempty"`
	// MaxBytes bounds a stream that is created. Beyond it nothing more is taken, and
	// entries wait in the buffer. Default: no bound.
	MaxBytes int64 `json:"max_bytes,omitempty"`
	// DuplicateWindow is how long a stream that is created keeps repeats out. The server
	// keeps an id in memory for each entry of that time. Default: 2h, or max_age if that
	// is less.
	DuplicateWindow caddy.Duration `json:"duplicate_window,omitempty"`
	// DenyDelete lets nobody delete single messages of a stream that is created. It cannot
	// be taken back. Default: they can be.
	DenyDelete bool `json:"deny_delete,omitempty"`
	// DenyPurge lets nobody purge a stream that is created. It cannot be taken back.
	// Default: it can be.
	DenyPurge bool `json:"deny_purge,omitempty"`
	// Timeout of one acknowledgement, 10m at most. Default: 10s.
	Timeout caddy.Duration `json:"timeout,omitempty"`
	// Credentials is the file with a user's JWT and seed. Default: none.
	Credentials string `json:"credentials,omitempty"`
	// NKey is a placeholder for the seed of a user's nkey, {file.PATH}. Default: none.
	NKey string `json:"nkey,omitempty"`
	// User is a placeholder. Default: none.
	User string `json:"user,omitempty"`
	// Password is a placeholder. Default: none.
	//
	// Caddyfile: user <placeholder> <placeholder>
	Password string `json:"password,omitempty"`
	// Token is a placeholder. Default: none.
	Token string `json:"token,omitempty"`
	// TLS names the files of certificates. If any of it is set, connections without TLS
	// are refused. Default: none.
	TLS TLS `json:"tls,omitzero"`
	// Insecure allows servers without TLS that are not this host. Default: refused.
	Insecure bool `json:"insecure,omitempty"`

	config  Config
	servers []server
}

// CaddyModule returns the Caddy module information.
func (*Module) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "audit_log.stores.nats", New: func() caddy.Module { return new(Module) }}
}

// UnmarshalCaddyfile reads the store's options. Syntax:
//
//	store nats <url...> {
//		stream           <name>
//		subject          <prefix>
//		domain           <name>
//		create           on|off
//		replicas         <number>
//		max_age          <duration> [<class...>]
//		max_bytes        <size>
//		duplicate_window <duration>
//		deny_delete
//		deny_purge
//		timeout          <duration>
//		credentials      <file>
//		nkey             <placeholder>
//		user             <placeholder> <placeholder>
//		token            <placeholder>
//		tls {
//			ca                 <file>
//			client_certificate <file> <key file>
//			server_name        <name>
//			first
//		}
//		insecure
//	}
//
// max_age may be repeated for other classes.
func (m *Module) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume store name
	if m.Servers = d.RemainingArgs(); len(m.Servers) == 0 {
		return d.Errf("store nats takes the URLs of the cluster's servers, as in: store nats nats://nats-1.example.com:4222 nats://nats-2.example.com:4222")
	}
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] && option != "max_age" {
			return d.Errf("there is a %s already: remove one", option)
		}
		seen[option] = true
		if err := m.unmarshalOption(d, option); err != nil {
			return err
		}
	}
	return nil
}

func (m *Module) unmarshalOption(d *caddyfile.Dispenser, option string) error {
	flags := map[string]*bool{"deny_delete": &m.DenyDelete, "deny_purge": &m.DenyPurge, "insecure": &m.Insecure}
	values := map[string]*string{
		"stream": &m.Stream, "subject": &m.Subject, "domain": &m.Domain, "create": &m.Create,
		"credentials": &m.Credentials, "nkey": &m.NKey, "token": &m.Token,
	}
	switch {
	case flags[option] != nil:
		if d.NextArg() {
			return d.Errf("%s takes no argument", option)
		}
		*flags[option] = true
		return nil
	case values[option] != nil:
		if !d.AllArgs(values[option]) {
			return d.Errf("%s takes one argument", option)
		}
		return nil
	case option == "user":
		if !d.AllArgs(&m.User, &m.Password) {
			return d.Errf("user takes two placeholders, as in: user {env.AUDIT_USER} {env.AUDIT_PASSWORD}")
		}
		return nil
	case option == "max_age":
		return m.unmarshalMaxAge(d)
	case option == "tls":
		return m.TLS.UnmarshalCaddyfile(d, map[string]*bool{"first": &m.TLS.First})
	case option == "replicas" || option == "max_bytes" || option == "duplicate_window" || option == "timeout":
		var value string
		if !d.AllArgs(&value) {
			return d.Errf("%s takes one argument", option)
		}
		return m.unmarshalValue(d, option, value)
	}
	return d.Errf("%q is not an option of store nats: it knows stream, subject, domain, create, replicas, max_age, max_bytes, duplicate_window, "+
		"deny_delete, deny_purge, timeout, credentials, nkey, user, token, tls, insecure", option)
}

// sizeForm wants a unit: a bare number is more often a mistake than a count of bytes.
var sizeForm = regexp.MustCompile(`^[0-9.]+ ?[KMGTkmgt]i?[Bb]$`)

func (m *Module) unmarshalValue(d *caddyfile.Dispenser, option, value string) error {
	switch option {
	case "replicas":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > MaxReplicas {
			return d.Errf("replicas %q is not a number from 1 to %d", value, MaxReplicas)
		}
		m.Replicas = n
	case "max_bytes":
		size, err := humanize.ParseBytes(value)
		if err != nil || !sizeForm.MatchString(value) || size == 0 || size > math.MaxInt64 {
			return d.Errf("max_bytes %q is not a size: give it a unit, as in 100GiB", value)
		}
		m.MaxBytes = int64(size)
	default:
		duration, err := caddy.ParseDuration(value)
		if err != nil || duration <= 0 {
			return d.Errf("%s %q is not a duration above zero: write it as in 30s", option, value)
		}
		*map[string]*caddy.Duration{"duplicate_window": &m.DuplicateWindow, "timeout": &m.Timeout}[option] = caddy.Duration(duration)
	}
	return nil
}

func (m *Module) unmarshalMaxAge(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.Errf("max_age takes a duration, and the classes that it is for, as in: max_age 30d unattributed")
	}
	age, err := caddy.ParseDuration(args[0])
	if err != nil || age <= 0 {
		return d.Errf("max_age %q is not a duration above zero: write it as in 400d", args[0])
	}
	classes := args[1:]
	if len(classes) == 0 {
		classes = []string{""}
	}
	if m.MaxAge == nil {
		m.MaxAge = map[string]caddy.Duration{}
	}
	for _, class := range classes {
		if _, there := m.MaxAge[class]; there {
			return d.Errf("there is a max_age for that already: remove one")
		}
		m.MaxAge[class] = caddy.Duration(age)
	}
	return nil
}

// Provision checks the configuration. It reads no credential.
func (m *Module) Provision(caddy.Context) error {
	if err := m.provision(); err != nil {
		return fmt.Errorf("store nats: %w", err)
	}
	return nil
}

func (m *Module) provision() error {
	if m.Create != "" && m.Create != "on" && m.Create != "off" {
		return fmt.Errorf("create %q is neither on nor off", m.Create)
	}
	if m.Credentials != "" {
		name, err := caddy.NewReplacer().ReplaceOrErr(m.Credentials, true, true)
		if err != nil {
			return fmt.Errorf("credentials file %q: %w", m.Credentials, err)
		}
		if m.Credentials, err = filepath.Abs(name); err != nil {
			return fmt.Errorf("credentials file %q: %w", name, err)
		}
	}
	if err := m.TLS.Provision(); err != nil {
		return err
	}
	m.config = Config{
		Servers: m.Servers, Stream: m.Stream, Subject: m.Subject, Domain: m.Domain, Replicas: m.Replicas, NoCreate: m.Create == "off",
		MaxBytes: m.MaxBytes, DuplicateWindow: time.Duration(m.DuplicateWindow), DenyDelete: m.DenyDelete, DenyPurge: m.DenyPurge,
		Timeout: time.Duration(m.Timeout), Credentials: m.Credentials, NKey: m.NKey, User: m.User, Password: m.Password, Token: m.Token,
		TLS: m.TLS, Insecure: m.Insecure, Resolve: placeholder.Replace, MaxAge: map[string]time.Duration{},
	}.withDefaults()
	for class, age := range m.MaxAge {
		m.config.MaxAge[class] = time.Duration(age)
	}
	var err error
	m.servers, err = m.config.check()
	return err
}

// Describe implements forwarder.Opener.
func (m *Module) Describe() forwarder.Description { return m.config.describe(m.servers) }

// Open implements forwarder.Opener.
func (m *Module) Open(ctx context.Context, log *slog.Logger) (forwarder.Store, error) {
	s, err := Open(ctx, m.config, log)
	if err != nil {
		return nil, err // and no store that is none
	}
	return s, nil
}

// Interface guards
var (
	_ caddy.Provisioner     = (*Module)(nil)
	_ caddyfile.Unmarshaler = (*Module)(nil)
	_ forwarder.Opener      = (*Module)(nil)
)
