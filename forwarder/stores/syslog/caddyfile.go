package syslogstore

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"regexp"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func init() {
	caddy.RegisterModule(new(Module))
}

// Module is the audit store "syslog": each entry is sent to a receiver as one RFC 5424
// message, octet-counted, over TLS. Its delivery is unacknowledged.
type Module struct {
	// URL of the receiver: tls://HOST[:PORT], whose port is 6514 unless it is named,
	// tcp://HOST:PORT or unix:///PATH, a stream socket. Required.
	//
	// Caddyfile: store syslog <url>
	URL string `json:"url"`
	// Facility of each message, a name such as authpriv or local0, or its number.
	// Default: audit, which is 13.
	Facility string `json:"facility,omitempty"`
	// Hostname is the HOSTNAME of each message, up to 255 printable ASCII characters.
	// Default: the system's name, without what cannot stand there.
	Hostname string `json:"hostname,omitempty"`
	// AppName is the APP-NAME of each message, up to 48 printable ASCII characters.
	// Default: caddy-audit-log.
	AppName string `json:"app_name,omitempty"`
	// Enterprise is the private enterprise number in the name of the structured data,
	// audit@NUMBER. Default: 32473, which is reserved for examples.
	Enterprise string `json:"enterprise,omitempty"`
	// Timeout is what the receiver has to take one batch, and what connecting may take, 10m
	// at most. Default: 10s.
	Timeout caddy.Duration `json:"timeout,omitempty"`
	// Resend is how long what was written is kept in memory, up to 32 MiB of it, to be
	// written again if the connection breaks; at most 10m. If it is negative, nothing is
	// kept. Default: 30s.
	Resend caddy.Duration `json:"resend,omitempty"`
	// MaxMessage is the largest message that the receiver takes whole, in bytes and at
	// least 2048; negative is no bound. An entry whose message is larger goes into
	// quarantine: receivers cut, drop or worse. Default: 8192, which is what they take
	// unless they are told otherwise.
	MaxMessage int64 `json:"max_message,omitempty"`
	// TLS names the files of certificates. Default: none.
	TLS TLS `json:"tls,omitzero"`
	// Insecure allows a tcp:// URL whose host is not this one. Default: refused.
	Insecure bool `json:"insecure,omitempty"`

	config Config
	target target
}

// CaddyModule returns the Caddy module information.
func (*Module) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "audit_log.stores.syslog", New: func() caddy.Module { return new(Module) }}
}

// UnmarshalCaddyfile reads the store's options. Syntax:
//
//	store syslog <url> {
//		facility    <name>|<number>
//		hostname    <name>
//		app_name    <name>
//		enterprise  <number>
//		timeout     <duration>
//		resend      <duration>|none
//		max_message <size>|none
//		tls {
//			ca                 <file>
//			client_certificate <file> <key file>
//			server_name        <name>
//		}
//		insecure
//	}
func (m *Module) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume store name
	if !d.AllArgs(&m.URL) {
		return d.Errf("store syslog takes one argument, the URL of the receiver, as in: store syslog tls://siem.example.com:6514")
	}
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] {
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
	texts := map[string]*string{"facility": &m.Facility, "hostname": &m.Hostname, "app_name": &m.AppName, "enterprise": &m.Enterprise}
	switch option {
	case "insecure":
		if d.NextArg() {
			return d.Errf("insecure takes no argument")
		}
		m.Insecure = true
		return nil
	case "tls":
		return m.TLS.UnmarshalCaddyfile(d, nil)
	case "facility", "hostname", "app_name", "enterprise", "timeout", "resend", "max_message":
		var value string
		if !d.AllArgs(&value) {
			return d.Errf("%s takes one argument", option)
		}
		if text := texts[option]; text != nil {
			*text = value
			return nil
		}
		return m.unmarshalValue(d, option, value)
	}
	return d.Errf("%q is not an option of store syslog: it knows facility, hostname, app_name, enterprise, timeout, resend, max_message, tls, insecure", option)
}

// sizeForm wants a unit: a bare number is more often a mistake than a count of bytes.
var sizeForm = regexp.MustCompile(`^[0-9.]+ ?[KMGkmg]i?[Bb]$`)

func (m *Module) unmarshalValue(d *caddyfile.Dispenser, option, value string) error {
	switch option {
	case "timeout":
		timeout, err := caddy.ParseDuration(value)
		if err != nil || timeout <= 0 {
			return d.Errf("timeout %q is not a duration above zero: write it as in 10s", value)
		}
		m.Timeout = caddy.Duration(timeout)
	case "resend":
		if value == "none" {
			m.Resend = caddy.Duration(NoResend)
			return nil
		}
		resend, err := caddy.ParseDuration(value)
		if err != nil || resend <= 0 {
			return d.Errf("resend %q is not a duration above zero: write it as in 30s, or none", value)
		}
		m.Resend = caddy.Duration(resend)
	case "max_message":
		if value == "none" {
			m.MaxMessage = NoMaxMessage
			return nil
		}
		size, err := humanize.ParseBytes(value)
		if err != nil || !sizeForm.MatchString(value) || size == 0 || size > math.MaxInt32 {
			return d.Errf("max_message %q is not a size: give it a unit, as in 64KiB, or write none", value)
		}
		m.MaxMessage = int64(size)
	}
	return nil
}

// Provision checks the configuration. It reads no certificate.
func (m *Module) Provision(caddy.Context) error {
	if err := m.provision(); err != nil {
		return fmt.Errorf("store syslog: %w", err)
	}
	return nil
}

func (m *Module) provision() error {
	if m.MaxMessage > math.MaxInt32 {
		return fmt.Errorf("max_message %d is out of range: give a number of bytes below 2 GiB", m.MaxMessage)
	}
	if err := m.TLS.Provision(); err != nil {
		return err
	}
	m.config = Config{
		URL: m.URL, Facility: m.Facility, Hostname: m.Hostname, AppName: m.AppName, Enterprise: m.Enterprise,
		Timeout: time.Duration(m.Timeout), Resend: time.Duration(m.Resend), MaxMessage: int(m.MaxMessage), TLS: m.TLS, Insecure: m.Insecure,
	}.withDefaults()
	var err error
	m.target, err = m.config.check()
	return err
}

// Describe implements forwarder.Opener.
func (m *Module) Describe() forwarder.Description { return m.config.describe(m.target) }

// Open implements forwarder.Opener.
func (m *Module) Open(_ context.Context, log *slog.Logger) (forwarder.Store, error) {
	return Open(m.config, log)
}

// Interface guards
var (
	_ caddy.Provisioner     = (*Module)(nil)
	_ caddyfile.Unmarshaler = (*Module)(nil)
	_ forwarder.Opener      = (*Module)(nil)
)
