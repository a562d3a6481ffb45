package file

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func init() {
	caddy.RegisterModule(Module{})
}

// Module is the audit store "file": one JSON entry a line, for log shippers. It is
// for one instance; each other one needs a file of its own.
type Module struct {
	// Path of the file that is appended to. Rotated files lie beside it. It and its
	// directory are made if they are not there. Placeholders are replaced when it is
	// loaded. Required.
	//
	// Caddyfile: store file <path>
	Path string `json:"path"`
	// Mode of the files, in octal. Others than the owner may at most read: "0640" lets
	// a shipper's group do that. Default: "0600".
	Mode string `json:"mode,omitempty"`
	// MaxSize is what a file may grow to before it is rotated, in bytes, at least
	// 1 MiB. Default: 100 MiB.
	MaxSize int64 `json:"max_size,omitempty"`
	// MaxAge is how long a file is appended to before it is rotated, at least a
	// minute. Default: 24h.
	MaxAge caddy.Duration `json:"max_age,omitempty"`
	// Compress rotated files but the newest: "zstd", "gzip" or "none". Default: "none".
	Compress Compression `json:"compress,omitempty"`
	// Keep is how many rotated files are kept; older ones are removed. Default: all.
	Keep int `json:"keep,omitempty"`
	// KeepFor is how long a file is kept after its rotation, at least a minute. Default:
	// for ever.
	KeepFor caddy.Duration `json:"keep_for,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Module) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "audit_log.stores.file", New: func() caddy.Module { return new(Module) }}
}

// UnmarshalCaddyfile reads the store's options. Syntax:
//
//	store file <path> {
//		mode     <octal>
//		max_size <size>
//		max_age  <duration>
//		compress zstd|gzip|none
//		keep     <number>
//		keep_for <duration>
//	}
func (m *Module) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume store name
	if !d.AllArgs(&m.Path) {
		return d.Errf("store file takes one argument, the path of its file, as in: store file ./audit-data/audit.ndjson")
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		var value string
		set := m.options()[option]
		if set == nil {
			return d.Errf("%q is not an option of store file: it knows mode, max_size, max_age, compress, keep, keep_for", option)
		}
		if !d.AllArgs(&value) {
			return d.Errf("%s takes one argument", option)
		}
		if err := set(value); err != nil {
			return d.Errf("%s %w", option, err)
		}
	}
	return nil
}

func (m *Module) options() map[string]func(string) error {
	return map[string]func(string) error{
		"mode": func(v string) (err error) {
			m.Mode = v
			_, err = parseMode(v)
			return err
		},
		"max_size": func(v string) (err error) {
			m.MaxSize, err = parseSize(v)
			return err
		},
		"max_age": func(v string) (err error) {
			m.MaxAge, err = parseDuration(v)
			return err
		},
		"compress": func(v string) error {
			m.Compress = Compression(v)
			return m.Compress.check()
		},
		"keep": func(v string) (err error) {
			if m.Keep, err = strconv.Atoi(v); err != nil || m.Keep < 1 {
				return fmt.Errorf("%q is not a number of files above zero: leave it out to keep all", v)
			}
			return nil
		},
		"keep_for": func(v string) (err error) {
			m.KeepFor, err = parseDuration(v)
			return err
		},
	}
}

func parseMode(s string) (fs.FileMode, error) {
	n, err := strconv.ParseUint(s, 8, 32)
	if mode := fs.FileMode(n); err == nil && mode&0o600 == 0o600 && mode&^0o644 == 0 {
		return mode, nil
	}
	return 0, fmt.Errorf("%q is not a mode that lets others at most read: write it as in 0600 or 0640", s)
}

func (c Compression) check() error {
	switch c {
	case CompressZstd, CompressGzip, CompressNone:
		return nil
	}
	return fmt.Errorf("%q: it is zstd, gzip or none", string(c))
}

var sizeForm = regexp.MustCompile(`^[0-9]+(\.[0-9]+)? ?[A-Za-z]+$`)

// minSize is the smallest max_size: one entry can have a mebibyte.
const minSize = 1 << 20

// parseSize wants a unit: a bare number is more often a mistake than a count of bytes.
func parseSize(s string) (int64, error) {
	if !sizeForm.MatchString(s) {
		return 0, fmt.Errorf("%q is not a size: give it a unit, as in 100MiB or 2GiB", s)
	}
	n, err := humanize.ParseBytes(s)
	if err != nil || n < minSize || n > math.MaxInt64/2 {
		return 0, fmt.Errorf("%q is not a size of at least 1MiB: write it as in 100MiB or 2GiB", s)
	}
	return int64(n), nil
}

func parseDuration(s string) (caddy.Duration, error) {
	d, err := caddy.ParseDuration(s)
	if err != nil || d < time.Minute {
		return 0, fmt.Errorf("%q is not a duration of at least a minute: write it as in 24h or 30d", s)
	}
	return caddy.Duration(d), nil
}

// Provision replaces placeholders and checks what JSON may have brought in.
func (m *Module) Provision(caddy.Context) error {
	path, err := caddy.NewReplacer().ReplaceOrErr(m.Path, true, true)
	if err != nil {
		return fmt.Errorf("store file: the path %q: %w", m.Path, err)
	}
	switch base := filepath.Base(path); {
	case path == "":
		return fmt.Errorf("store file: the path is empty: name a file, as in ./audit-data/audit.ndjson")
	case strings.HasSuffix(path, "/"), base == ".", base == "..":
		return fmt.Errorf("store file: the path %q is a directory: name a file in it, as in ./audit-data/audit.ndjson", path)
	case strings.HasSuffix(base, suffixZstd), strings.HasSuffix(base, suffixGzip):
		return fmt.Errorf("store file: the path %q: the file that is appended to is not compressed: leave %s out and use the option compress",
			path, filepath.Ext(base))
	}
	if m.Path, err = filepath.Abs(path); err != nil {
		return fmt.Errorf("store file: the path %q: %w", path, err)
	}
	if m.Mode != "" {
		if _, err := parseMode(m.Mode); err != nil {
			return fmt.Errorf("store file: mode %w", err)
		}
	}
	if m.Compress != "" {
		if err := m.Compress.check(); err != nil {
			return fmt.Errorf("store file: compress %w", err)
		}
	}
	if m.MaxSize != 0 && m.MaxSize < minSize || m.MaxAge != 0 && m.MaxAge < caddy.Duration(time.Minute) ||
		m.Keep < 0 || m.KeepFor != 0 && m.KeepFor < caddy.Duration(time.Minute) {
		return fmt.Errorf("store file: max_size must be at least 1048576, max_age and keep_for at least a minute, keep above zero")
	}
	return nil
}

func (m *Module) config() Config {
	mode, err := parseMode(m.Mode)
	if err != nil {
		mode = DefaultMode // Provision has looked: it is empty
	}
	return Config{
		Path: m.Path, Mode: mode, MaxSize: m.MaxSize, MaxAge: time.Duration(m.MaxAge),
		Compress: m.Compress, Keep: m.Keep, KeepFor: time.Duration(m.KeepFor),
	}
}

// Describe implements forwarder.Opener.
func (m *Module) Describe() forwarder.Description { return describe(m.Path) }

// Open implements forwarder.Opener.
func (m *Module) Open(ctx context.Context, log *slog.Logger) (forwarder.Store, error) {
	return Open(ctx, m.config(), log)
}

// Probe implements forwarder.ProbeOpener.
func (m *Module) Probe(ctx context.Context, probe forwarder.Record) error {
	return Probe(ctx, m.config(), probe)
}

// Interface guards
var (
	_ caddy.Provisioner     = (*Module)(nil)
	_ caddyfile.Unmarshaler = (*Module)(nil)
	_ forwarder.Opener      = (*Module)(nil)
	_ forwarder.ProbeOpener = (*Module)(nil)
)
