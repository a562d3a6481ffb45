package httpclient

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/placeholder"
)

// Options are those that every store has that posts to a URL. Its module embeds them.
type Options struct {
	// URL that takes the entries. Its scheme and host are written out; placeholders may
	// stand for its user and password, in its path and in its query, and are escaped.
	// Required.
	//
	// Caddyfile: store <kind> <url>
	URL string `json:"url"`
	// Headers are sent with each request. A value whose header's name suggests a
	// credential must hold a placeholder. Default: none.
	Headers []Header `json:"headers,omitempty"`
	// Timeout of one request, 10m at most. Default: 30s.
	Timeout caddy.Duration `json:"timeout,omitempty"`
	// MaxBody is the largest body that the receiver takes, in bytes before it is
	// compressed, at least 64 KiB. Default: no bound; batches have up to 4 MiB of JSON.
	MaxBody int64 `json:"max_body,omitempty"`
	// Proxy is an http:// or socks5:// URL, or none. Default: what the environment says
	// (HTTPS_PROXY, HTTP_PROXY, NO_PROXY).
	Proxy string `json:"proxy,omitempty"`
	// TLS names the files of certificates. Default: none.
	TLS TLS `json:"tls,omitzero"`
	// Insecure allows an http:// URL whose host is not this one. Default: refused.
	Insecure bool `json:"insecure,omitempty"`
}

// shared are the options that Options reads.
var shared = []string{"header", "timeout", "max_body", "proxy", "tls", "insecure"}

// Block is the Caddyfile block of a store with Options.
type Block struct {
	// Kind is the store's, and Example a URL as it takes one.
	Kind, Example string
	// Own are the store's own options.
	Own []Own
}

// Own is an option of a store's own, which takes one argument or a list of them.
type Own struct {
	Name string
	// Value takes the argument, or List those of an option that takes one or more.
	Value *string
	List  *[]string
	// Repeated says that the option may be repeated.
	Repeated bool
}

// find returns an option of the store's own.
func (b Block) find(name string) (Own, bool) {
	i := slices.IndexFunc(b.Own, func(o Own) bool { return o.Name == name })
	if i < 0 {
		return Own{}, false
	}
	return b.Own[i], true
}

// Unmarshal reads the options. Syntax:
//
//	store <kind> <url> {
//		<the store's own>
//		header   <name> <value>
//		timeout  <duration>
//		max_body <size>
//		proxy    <url>|none
//		tls {
//			ca                 <file>
//			client_certificate <file> <key file>
//			server_name        <name>
//		}
//		insecure
//	}
//
// header may be repeated.
func (o *Options) Unmarshal(d *caddyfile.Dispenser, b Block) error {
	d.Next() // consume store name
	if !d.AllArgs(&o.URL) {
		return d.Errf("store %s takes one argument, the URL that takes the entries, as in: store %s %s", b.Kind, b.Kind, b.Example)
	}
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		own, isOwn := b.find(option)
		if seen[option] && option != "header" && !own.Repeated {
			return d.Errf("there is a %s already: remove one", option)
		}
		seen[option] = true
		var err error
		if isOwn {
			err = own.unmarshal(d)
		} else {
			err = o.unmarshalOption(d, option, b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (o Own) unmarshal(d *caddyfile.Dispenser) error {
	if o.List == nil {
		if !d.AllArgs(o.Value) {
			return d.Errf("%s takes one argument", o.Name)
		}
		return nil
	}
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.Errf("%s takes one argument or more", o.Name)
	}
	*o.List = append(*o.List, args...)
	return nil
}

func (o *Options) unmarshalOption(d *caddyfile.Dispenser, option string, b Block) error {
	var value string
	switch option {
	case "header":
		var h Header
		if !d.AllArgs(&h.Name, &h.Value) {
			return d.Errf("header takes a name and a value, as in: header Authorization \"Bearer {env.AUDIT_TOKEN}\"")
		}
		o.Headers = append(o.Headers, h)
		return nil
	case "insecure":
		if d.NextArg() {
			return d.Errf("insecure takes no argument")
		}
		o.Insecure = true
		return nil
	case "tls":
		return o.TLS.UnmarshalCaddyfile(d, nil)
	case "timeout", "max_body", "proxy":
		if !d.AllArgs(&value) {
			return d.Errf("%s takes one argument", option)
		}
		return o.unmarshalValue(d, option, value)
	}
	var names []string
	for _, own := range b.Own {
		names = append(names, own.Name)
	}
	return d.Errf("%q is not an option of store %s: it knows %s", option, b.Kind, strings.Join(append(names, shared...), ", "))
}

// sizeForm wants a unit: a bare number is more often a mistake than a count of bytes.
var sizeForm = regexp.MustCompile(`^[0-9.]+ ?[KMGkmg]i?[Bb]$`)

func (o *Options) unmarshalValue(d *caddyfile.Dispenser, option, value string) error {
	switch option {
	case "proxy":
		o.Proxy = value
	case "timeout":
		timeout, err := caddy.ParseDuration(value)
		if err != nil || timeout <= 0 {
			return d.Errf("timeout %q is not a duration above zero: write it as in 30s", value)
		}
		o.Timeout = caddy.Duration(timeout)
	case "max_body":
		size, err := humanize.ParseBytes(value)
		if err != nil || !sizeForm.MatchString(value) || size == 0 || size > math.MaxInt32 {
			return d.Errf("max_body %q is not a size: give it a unit, as in 1MiB", value)
		}
		o.MaxBody = int64(size)
	}
	return nil
}

// Config is what the client needs of them. It reads no credential; names of files that
// hold certificates are made absolute.
func (o *Options) Config() (Config, error) {
	if o.MaxBody < 0 || o.MaxBody > math.MaxInt32 {
		return Config{}, fmt.Errorf("max_body %d is out of range: give a number of bytes below 2 GiB", o.MaxBody)
	}
	if err := o.TLS.Provision(); err != nil {
		return Config{}, err
	}
	return Config{
		URL: o.URL, Headers: o.Headers, Timeout: time.Duration(o.Timeout), MaxBody: int(o.MaxBody),
		Proxy: o.Proxy, TLS: o.TLS, Insecure: o.Insecure, Resolve: placeholder.Replace,
	}, nil
}
