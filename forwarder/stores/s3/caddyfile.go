package s3

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/placeholder"
)

func init() {
	caddy.RegisterModule(new(Module))
}

// Module is the audit store "s3": batches of entries become immutable objects of
// compressed NDJSON in a bucket, of AWS or of any server that speaks its protocol, which
// locks them for a term if it is told to. Its delivery is at least once.
//
// Placeholders are {env.NAME} and {file.PATH}. They are replaced for each request, so
// that a key that was rotated is used at once.
type Module struct {
	// URL is https://ENDPOINT/BUCKET[/PREFIX], or s3://BUCKET[/PREFIX] for the endpoint of
	// AWS in Region. Required.
	//
	// Caddyfile: store s3 <url>
	URL string `json:"url"`
	// Region that requests are signed for. Default: that in the host of an endpoint of
	// AWS, else us-east-1; s3:// needs it.
	Region string `json:"region,omitempty"`
	// AccessKey is a placeholder. Default: {env.AWS_ACCESS_KEY_ID}.
	AccessKey string `json:"access_key,omitempty"`
	// SecretKey is a placeholder. Default: {env.AWS_SECRET_ACCESS_KEY}.
	SecretKey string `json:"secret_key,omitempty"`
	// SessionToken is a placeholder. Default: {env.AWS_SESSION_TOKEN}, if it is set and
	// neither key is named.
	SessionToken string `json:"session_token,omitempty"`
	// Credentials is env, for the keys above, or iam, for the role of the machine, pod,
	// task or web identity that this process has. Default: env.
	Credentials string `json:"credentials,omitempty"`
	// Lock is compliance or governance: nobody, or nobody without a special right, can
	// delete or change an object before its lock ends. The bucket must have Object Lock.
	// Default: what the bucket does by itself.
	Lock string `json:"lock,omitempty"`
	// LockTerm is how long an object is locked from its writing on. Default: for as long as
	// the entries in it are kept, which keep says.
	//
	// Caddyfile: lock compliance|governance <duration>
	LockTerm caddy.Duration `json:"lock_term,omitempty"`
	// LegalHold sets a hold on each object, which lasts until somebody takes it off.
	// Default: false.
	LegalHold bool `json:"legal_hold,omitempty"`
	// Encryption is aes256 or kms, with the key in KMSKey: how the server encrypts what it
	// keeps. Default: what the bucket does by itself.
	Encryption string `json:"encryption,omitempty"`
	// KMSKey is the id of the key with kms. Default: none; kms must have one.
	//
	// Caddyfile: encryption kms <key id>
	KMSKey string `json:"kms_key,omitempty"`
	// StorageClass is the server's name of one, as in STANDARD_IA. Default: the bucket's.
	StorageClass string `json:"storage_class,omitempty"`
	// Addressing is path, for https://ENDPOINT/BUCKET, or virtual, for
	// https://BUCKET.ENDPOINT. Default: virtual for AWS, path for others.
	Addressing string `json:"addressing,omitempty"`
	// Create makes the bucket if there is none, with Object Lock if Lock is set. Default:
	// a bucket that is not there is an error.
	Create bool `json:"create,omitempty"`
	// Timeout of one request, 10m at most. Default: 1m.
	Timeout caddy.Duration `json:"timeout,omitempty"`
	// TLS names the files of certificates. Default: none.
	TLS TLS `json:"tls,omitzero"`
	// Insecure allows an http:// URL whose host is not this one. Default: refused.
	Insecure bool `json:"insecure,omitempty"`

	config Config
	target target
}

// CaddyModule returns the Caddy module information.
func (*Module) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "audit_log.stores.s3", New: func() caddy.Module { return new(Module) }}
}

// UnmarshalCaddyfile reads the store's options. Syntax:
//
//	store s3 <url> {
//		region        <region>
//		access_key    <placeholder>
//		secret_key    <placeholder>
//		session_token <placeholder>
//		credentials   env|iam
//		lock          compliance|governance [<duration>]
//		legal_hold    on|off
//		encryption    aes256
//		encryption    kms <key id>
//		storage_class <class>
//		addressing    path|virtual
//		create        on|off
//		timeout       <duration>
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
		return d.Errf("store s3 takes one argument, the bucket's URL, as in: store s3 https://s3.example.com/bucket/prefix")
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
	texts := map[string]*string{
		"region": &m.Region, "access_key": &m.AccessKey, "secret_key": &m.SecretKey, "session_token": &m.SessionToken,
		"credentials": &m.Credentials, "storage_class": &m.StorageClass, "addressing": &m.Addressing,
	}
	switches := map[string]*bool{"legal_hold": &m.LegalHold, "create": &m.Create}
	if to := texts[option]; to != nil {
		if !d.AllArgs(to) || *to == "" {
			return d.Errf("%s takes one argument", option)
		}
		return nil
	}
	if to := switches[option]; to != nil {
		var value string
		if !d.AllArgs(&value) || value != "on" && value != "off" {
			return d.Errf("%s takes on or off", option)
		}
		*to = value == "on"
		return nil
	}
	var err error
	switch option {
	case "lock":
		args := d.RemainingArgs()
		if len(args) != 1 && len(args) != 2 {
			return d.Errf("lock takes a mode and a term, as in: lock compliance 400d; without a term, it is for as long as the entries are kept")
		}
		if m.Lock = args[0]; len(args) == 1 {
			return nil
		}
		if m.LockTerm, err = duration(args[1]); err != nil {
			return d.Errf("lock: the term %w", err)
		}
	case "encryption":
		args := d.RemainingArgs()
		if len(args) == 0 || len(args) > 2 || args[0] != EncryptionKMS && len(args) > 1 {
			return d.Errf("encryption takes aes256, or kms and a key, as in: encryption kms KEYID")
		}
		m.Encryption = args[0]
		if len(args) > 1 {
			m.KMSKey = args[1]
		}
	case "timeout":
		var value string
		if !d.AllArgs(&value) {
			return d.Errf("timeout takes one argument")
		}
		if m.Timeout, err = duration(value); err != nil {
			return d.Errf("timeout %w", err)
		}
	case "insecure":
		if d.NextArg() {
			return d.Errf("insecure takes no argument")
		}
		m.Insecure = true
	case "tls":
		return m.TLS.UnmarshalCaddyfile(d, nil)
	default:
		return d.Errf("%q is not an option of store s3: it knows region, access_key, secret_key, session_token, credentials, lock, legal_hold, encryption, storage_class, addressing, create, timeout, tls, insecure", option)
	}
	return nil
}

func duration(s string) (caddy.Duration, error) {
	t, err := caddy.ParseDuration(s)
	if err != nil || t <= 0 {
		return 0, fmt.Errorf("%q is not a duration above zero: write it as in 30s or 400d; a year is 365d or 366d", s)
	}
	return caddy.Duration(t), nil
}

// Provision checks the configuration. It reads no credential.
func (m *Module) Provision(caddy.Context) error {
	if err := m.provision(); err != nil {
		return fmt.Errorf("store s3: %w", err)
	}
	return nil
}

func (m *Module) provision() error {
	for option, value := range map[string]string{"access_key": m.AccessKey, "secret_key": m.SecretKey, "session_token": m.SessionToken} {
		if value != "" && !placeholder.Is(value) {
			return fmt.Errorf("%s is written out: give it by a placeholder, as in {env.AUDIT_S3_KEY} or {file./run/secrets/audit_s3_key}", option)
		}
	}
	if err := m.TLS.Provision(); err != nil {
		return err
	}
	m.config = Config{
		URL: m.URL, Region: m.Region, AccessKey: m.AccessKey, SecretKey: m.SecretKey, SessionToken: m.SessionToken, Credentials: m.Credentials,
		Lock: Lock{m.Lock, time.Duration(m.LockTerm)}, LegalHold: m.LegalHold, Encryption: m.Encryption, KMSKey: m.KMSKey,
		StorageClass: m.StorageClass, Addressing: m.Addressing, Create: m.Create, Timeout: time.Duration(m.Timeout),
		TLS: m.TLS, Insecure: m.Insecure, Resolve: placeholder.Replace,
	}.withDefaults()
	var err error
	m.target, err = m.config.check()
	return err
}

// Describe implements forwarder.Opener.
func (m *Module) Describe() forwarder.Description { return m.config.describe(m.target) }

// Batching implements forwarder.BatchOpener.
func (m *Module) Batching() forwarder.Batching { return m.config.batching() }

// Open implements forwarder.Opener.
func (m *Module) Open(ctx context.Context, log *slog.Logger) (forwarder.Store, error) {
	s, err := Open(ctx, m.config, log)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Probe implements forwarder.ProbeOpener.
func (m *Module) Probe(ctx context.Context, probe forwarder.Record) error {
	return Probe(ctx, m.config, probe)
}

// Scan implements forwarder.ScanOpener.
func (m *Module) Scan(ctx context.Context, q forwarder.Query, damaged func(name string, err error)) iter.Seq2[[]byte, error] {
	return Scan(ctx, m.config, q, damaged)
}

// Interface guards
var (
	_ caddy.Provisioner     = (*Module)(nil)
	_ caddyfile.Unmarshaler = (*Module)(nil)
	_ forwarder.Opener      = (*Module)(nil)
	_ forwarder.BatchOpener = (*Module)(nil)
	_ forwarder.ProbeOpener = (*Module)(nil)
	_ forwarder.ScanOpener  = (*Module)(nil)
)
