package commands

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/catalogs"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
)

// Sidecar is the audit log of a configuration, whether it runs or not: the app audit_log. The
// commands find it among Caddy's modules, and know it by no more than this.
type Sidecar interface {
	caddy.Provisioner
	// Directory is the buffer's. It, and what follows, is there once it is provisioned.
	Directory() string
	// BufferOptions are those that a server opens the buffer with.
	BufferOptions() buffer.Options
	// Retention are the stores, and how long their entries are kept and may be read.
	Retention() *operator.Retention
	// Deliver takes over the buffer in a directory and delivers what waits in it to the stores,
	// until nothing does or ctx ends. It says to w what became of it, and how far it is as it
	// goes.
	Deliver(ctx context.Context, dir string, w io.Writer, progress func(done, all int64)) error
	// AdoptOptions are those of a command that opens a buffer for writing, as what it is and
	// wherever it came from. They need no configuration.
	AdoptOptions() buffer.Options
}

// Examined is a sidecar that was provisioned with all of its configuration, and not started.
type Examined interface {
	Sidecar
	// Warnings are what an operator should know: about routes that no audit_log covers, and
	// others.
	Warnings() (routes, others []string)
	// Sites are those with audit_log, with the catalogs that they have read.
	Sites() []*Catalogued
	// Services ask each service that the configuration names, once; anonymous says that
	// nothing in it tells who a caller is.
	Services() (questions []doctor.Question, anonymous bool)
	// KeyFiles are those that issuers' keys are read from.
	KeyFiles() []string
}

// Site is the handler of a site with audit_log, as it was read of a configuration.
type Site interface {
	// Catalogue reads what it takes calls for. Sites that share a source read it once.
	Catalogue(from *catalogs.Descriptions, log *slog.Logger) (*Catalogued, error)
}

// Catalogued is what a site takes calls for.
type Catalogued struct {
	// DefinedAt is the file and line of its directive, where that is known.
	DefinedAt string
	// Base is its platform alone, and Platform that with the site's own catalogs.
	Base, Platform *audit.Platform
	// Catalogs is how many of these there are, and Content what they hold, if it was asked for.
	Catalogs int
	Content  []*catalogs.Content
}

// deepest bounds how deep routes of others are followed.
const deepest = 128

// newSidecar makes one, without a configuration.
func newSidecar() (Sidecar, error) { return moduleAs[Sidecar]("audit_log") }

func newSite() (Site, error) { return moduleAs[Site]("http.handlers.audit_log") }

// moduleAs makes one of Caddy's modules.
func moduleAs[T any](id string) (made T, err error) {
	info, err := caddy.GetModule(id)
	if err != nil {
		return made, err
	}
	made, ok := info.New().(T)
	if !ok {
		return made, fmt.Errorf("the module %s is another than that of the audit log", id)
	}
	return made, nil
}

// looking is what waits for a configuration that it validates.
var looking struct {
	mu  sync.Mutex
	see func(Examined)
}

// Provisioned is told of each audit log that was provisioned, and reports whether a command looks
// at it: then its warnings are findings, and need no log.
func Provisioned(s Examined) bool {
	looking.mu.Lock()
	defer looking.mu.Unlock()
	if looking.see == nil {
		return false
	}
	looking.see(s)
	return true
}

func lookFor(see func(Examined)) {
	looking.mu.Lock()
	defer looking.mu.Unlock()
	looking.see = see
}
