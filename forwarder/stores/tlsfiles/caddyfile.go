package tlsfiles

import (
	"fmt"
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// UnmarshalCaddyfile reads the block of the option tls, on which d stands. Syntax:
//
//	tls {
//		ca                 <file>
//		client_certificate <file> <key file>
//		server_name        <name>
//	}
//
// A store may have further options there, which take no argument.
func (f *Files) UnmarshalCaddyfile(d *caddyfile.Dispenser, further map[string]*bool) error {
	if d.NextArg() {
		return d.Errf("tls takes no argument: put its options into a block")
	}
	names, forms := "ca, client_certificate, server_name", "ca <file>, client_certificate <file> <key file>, server_name <name>"
	for name := range further { // there is one at most
		names, forms = names+", "+name, forms+", "+name
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		var ok bool
		switch option {
		case "ca":
			ok = d.AllArgs(&f.CA)
		case "client_certificate":
			ok = d.AllArgs(&f.Certificate, &f.Key)
		case "server_name":
			ok = d.AllArgs(&f.ServerName)
		default:
			flag := further[option]
			if flag == nil {
				return d.Errf("%q is not an option of tls: it knows %s", option, names)
			}
			*flag, ok = true, !d.NextArg()
		}
		if !ok {
			return d.Errf("tls %s: write it as one of %s", option, forms)
		}
	}
	return nil
}

// Provision replaces placeholders in the files' names and makes these absolute. It reads
// no file.
func (f *Files) Provision() error {
	for _, file := range []*string{&f.CA, &f.Certificate, &f.Key} {
		if *file == "" {
			continue
		}
		name, err := caddy.NewReplacer().ReplaceOrErr(*file, true, true)
		if err != nil {
			return fmt.Errorf("tls file %q: %w", *file, err)
		}
		if *file, err = filepath.Abs(name); err != nil {
			return fmt.Errorf("tls file %q: %w", name, err)
		}
	}
	return nil
}
