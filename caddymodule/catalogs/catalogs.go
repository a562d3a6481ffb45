package catalogs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/audit/description"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/syntax"
	"github.com/caddy-audit-log/caddy-audit-log/internal/durable"
)

const (
	formatOpenAPI = "openapi"
	formatFile    = "file"

	// catalogWait is how long the server of a description may take. Caddy does
	// not begin to listen before.
	catalogWait = 5 * time.Second
	// maxCatalogRedirects are followed, and none to another host.
	maxCatalogRedirects = 5
	// maxCatalogWarnings of one description are logged; a count says how many
	// there were.
	maxCatalogWarnings = 20
)

// Catalog is a description of the site's API: what its operations are called
// and what they are done to. Several stack: an operation of the same method and
// path, whatever its parameters are called, goes over that of an earlier catalog,
// and each goes over the platform's. It is read again at each reload.
type Catalog struct {
	// Format is "openapi", an OpenAPI 3 or Swagger 2.0 description in JSON or
	// YAML, or "file", a list of operations in YAML. In the latter an operation
	// keeps what an earlier catalog says of it where the list says nothing. Required.
	//
	// Caddyfile: catalog openapi, or catalog file
	Format string `json:"format"`

	// Source is a file, or for "openapi" also an http(s) URL. At most 16 MiB are
	// read, and from a URL within 5 s; no redirect leads to another host, and
	// references to other documents are not followed. The last good copy of a URL
	// is kept in Caddy's data directory, as audit_log/catalogs/<sha256 of the
	// URL>.json, and serves while the URL is down. Placeholders are replaced when
	// it is loaded. Required.
	//
	// Caddyfile: catalog openapi <file>|<url>, or catalog file <file>
	Source string `json:"source"`

	sum string // of what was read, in hex
}

// Parse reads the option catalog.
func Parse(d *caddyfile.Dispenser) (*Catalog, error) {
	c := new(Catalog)
	if !d.AllArgs(&c.Format, &c.Source) {
		return nil, d.Errf("catalog takes a format and a source, as in: catalog openapi ./openapi.json")
	}
	if err := c.check(); err != nil {
		return nil, d.Errf("%w", err)
	}
	return c, nil
}

// check looks at what can be known without the machine.
func (c *Catalog) check() error {
	switch {
	case c.Format != formatOpenAPI && c.Format != formatFile:
		return fmt.Errorf("catalog format %q: this version knows openapi and file", c.Format)
	case c.Source == "":
		return errors.New("catalog without a source: give it a file, as in: catalog openapi ./openapi.json")
	case c.Format == formatFile && IsURL(c.Source):
		return errors.New("catalog file takes a file: a URL can be an OpenAPI description only")
	case IsURL(c.Source):
		return checkCatalogURL(c.Source)
	}
	return nil
}

// IsURL reports whether a source is an http or https URL, and no file.
func IsURL(source string) bool {
	u, err := url.Parse(source)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https")
}

func checkCatalogURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil {
		return fmt.Errorf("the catalog's URL %q: write it as in https://api.example.com/openapi.json, without a user", withoutSecrets(address))
	}
	return nil
}

// withoutSecrets is a source as it may stand in a log or an entry.
func withoutSecrets(source string) string {
	if !IsURL(source) {
		return source
	}
	u, err := url.Parse(source)
	if err != nil {
		return "…"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// String describes the catalog for a reader of audit.config_changed: another
// content is another catalog.
func (c *Catalog) String() string {
	line := fmt.Sprintf("catalog %s %s", c.Format, withoutSecrets(c.Source))
	if c.sum != "" {
		line += " sha256:" + c.sum
	}
	return line
}

// Over puts catalogs over a platform, each over the one before, and returns also what they
// hold. Warnings about them are logged.
func Over(p *audit.Platform, list []*Catalog, from *Descriptions, log *slog.Logger) (*audit.Platform, []*Content, error) {
	var content []*Content
	for _, c := range list {
		if err := c.check(); err != nil {
			return nil, nil, err
		}
		source, err := caddy.NewReplacer().ReplaceOrErr(c.Source, true, true)
		if err != nil {
			return nil, nil, fmt.Errorf("catalog %s %s: %w", c.Format, withoutSecrets(c.Source), err)
		}
		d, err := from.get(c.Format, source)
		if err == nil {
			c.sum = d.sum
			p, err = d.over(p)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("catalog %s %s: %w", c.Format, withoutSecrets(source), err)
		}
		d.warn(log)
		content = append(content, d)
	}
	return p, content, nil
}

// Content is what one source holds: routes of an API's description, or a
// site's own operations.
type Content struct {
	format, source string
	routes         []audit.Route
	overrides      []audit.Override
	warnings       []string
	sum            string
	// fetched is what came from a URL and is to be kept; nil otherwise.
	fetched []byte
	warned  sync.Once
}

func newContent(format, source string, data []byte) (*Content, error) {
	sum := sha256.Sum256(data)
	d := &Content{format: format, source: source, sum: hex.EncodeToString(sum[:])}
	var err error
	if format == formatFile {
		d.overrides, err = description.File(data)
	} else {
		d.routes, d.warnings, err = description.OpenAPI(data)
	}
	return d, err
}

// Has reports whether the catalog has an operation, and its place if it has one.
func (d *Content) Has(key string) (where string, ok bool) {
	for i := range d.overrides {
		if o := &d.overrides[i]; audit.SameRoute(o.Method, o.Template) == key {
			return o.At, true
		}
	}
	return "", slices.ContainsFunc(d.routes, func(r audit.Route) bool { return audit.SameRoute(r.Method, r.Template) == key })
}

// Targets reports whether the catalog file names the target of an operation, and where.
func (d *Content) Targets(key string) (where string, ok bool) {
	for i := range d.overrides {
		if o := &d.overrides[i]; o.Target != nil && audit.SameRoute(o.Method, o.Template) == key {
			return o.At, true
		}
	}
	return "", false
}

// Title is the catalog's kind and source, as they may be shown.
func (d *Content) Title() string {
	return fmt.Sprintf("catalog %s %s", d.format, withoutSecrets(d.source))
}

// IsOpenAPI reports whether it is an API's description, and no file of operations.
func (d *Content) IsOpenAPI() bool { return d.format == formatOpenAPI }

func (d *Content) over(p *audit.Platform) (*audit.Platform, error) {
	if d.format == formatFile {
		return p.WithOverrides(d.overrides)
	}
	return p.WithRoutes(d.routes)
}

// warn logs what was found wrong with the description, once.
func (d *Content) warn(log *slog.Logger) {
	d.warned.Do(func() {
		for i, w := range d.warnings {
			if i == maxCatalogWarnings {
				log.Warn("reading a catalog: there are more warnings", "source", withoutSecrets(d.source), "count", len(d.warnings))
				return
			}
			log.Warn("reading a catalog", "source", withoutSecrets(d.source), "why", w)
		}
	})
}

// Descriptions are what the catalogs of one configuration hold. Sites that share
// a source read it once, and wait once for a server that is down.
type Descriptions struct {
	mu  sync.Mutex
	all map[[2]string]*Content
}

func (ds *Descriptions) get(format, source string) (*Content, error) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	key := [2]string{format, source}
	if d := ds.all[key]; d != nil {
		return d, nil
	}
	d, err := readCatalog(format, source)
	if err != nil {
		return nil, err
	}
	if ds.all == nil {
		ds.all = make(map[[2]string]*Content)
	}
	ds.all[key] = d
	return d, nil
}

func readCatalog(format, source string) (*Content, error) {
	if IsURL(source) {
		return readCatalogURL(source)
	}
	data, err := readRegular(source)
	if err != nil {
		return nil, err
	}
	return newContent(format, source, data)
}

// readRegular reads a file that ends: a pipe or a device may not.
func readRegular(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: correct the path, which counts from the working directory", err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file: give the path of a description")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readBounded(f, info.Size())
}

// readBounded reads no more than is taken, and nothing of what is announced to
// be larger.
func readBounded(r io.Reader, announced int64) ([]byte, error) {
	tooLarge := fmt.Errorf("it is larger than %d MiB: leave out its schemas and examples, or write a catalog file", description.MaxBytes>>20)
	if announced > description.MaxBytes {
		return nil, tooLarge
	}
	data, err := io.ReadAll(io.LimitReader(r, description.MaxBytes+1))
	if err == nil && len(data) > description.MaxBytes {
		return nil, tooLarge
	}
	return data, err
}

// readCatalogURL reads a description from its URL, or the last good copy of it:
// a server that only describes the API must not keep the API down.
func readCatalogURL(address string) (*Content, error) {
	if err := checkCatalogURL(address); err != nil {
		return nil, err // a placeholder may have given anything
	}
	data, err := fetch(address)
	if err == nil {
		var d *Content
		if d, err = newContent(formatOpenAPI, address, data); err == nil {
			d.fetched = data
			if syntax.InClear(address) {
				d.warnings = append([]string{"it comes over http: whoever can change it on the way decides what calls are called; use https, or a file"}, d.warnings...)
			}
			return d, nil
		}
	}
	path := catalogCopy(address)
	copied, copyErr := readRegular(path)
	if copyErr != nil {
		return nil, fmt.Errorf("%w: there is no earlier copy of it in %s: correct the URL, start its server, or give a file", err, filepath.Dir(path))
	}
	d, copyErr := newContent(formatOpenAPI, address, copied)
	if copyErr != nil {
		return nil, fmt.Errorf("%w; and its copy %s: %w: remove the copy", err, path, copyErr)
	}
	d.warnings = append([]string{fmt.Sprintf("using the last good copy, %s: %v", path, err)}, d.warnings...)
	return d, nil
}

// fetch reads a URL. Its errors do not hold the query, which may be a
// credential.
func fetch(address string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), catalogWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("reading the URL: it is none")
	}
	req.Header.Set("User-Agent", "caddy-audit-log")
	req.Header.Set("Accept", "application/json, application/yaml;q=0.9, */*;q=0.5")
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: sameHost}
	resp, err := client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return nil, fmt.Errorf("asking its server: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking its server: it answered %s", resp.Status)
	}
	data, err := readBounded(resp.Body, resp.ContentLength)
	if err != nil {
		return nil, fmt.Errorf("reading its server's answer: %w", err)
	}
	return data, nil
}

func sameHost(req *http.Request, via []*http.Request) error {
	if first := via[0].URL; req.URL.Host != first.Host || req.URL.Scheme != first.Scheme {
		return fmt.Errorf("it leads to %s://%s, and a redirect to another host is not followed: give the URL that it leads to", req.URL.Scheme, req.URL.Host)
	}
	if len(via) > maxCatalogRedirects {
		return fmt.Errorf("it leads on more than %d times", maxCatalogRedirects)
	}
	return nil
}

// catalogCopy is where the last good copy of a URL is.
func catalogCopy(address string) string {
	sum := sha256.Sum256([]byte(address))
	return filepath.Join(caddy.AppDataDir(), "audit_log", "catalogs", hex.EncodeToString(sum[:])+".json")
}

// Keep writes the copies of what came from URLs. Only a configuration that
// starts does so: one that is validated writes nothing.
func (ds *Descriptions) Keep(log *slog.Logger) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for _, d := range ds.all {
		if d.fetched == nil {
			continue
		}
		if err := keepCopy(catalogCopy(d.source), d.fetched); err != nil {
			log.Warn("keeping a copy of a catalog: while its URL is down, this configuration cannot be loaded", "source", withoutSecrets(d.source), "error", err)
		}
		d.fetched = nil
	}
}

func keepCopy(path string, data []byte) error {
	if old, err := readRegular(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}
