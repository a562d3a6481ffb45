package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/catalogs"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/commands"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/page"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stamps"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stores"
	"github.com/caddy-audit-log/caddy-audit-log/identity"
	"github.com/caddy-audit-log/caddy-audit-log/internal/machine"
)

func init() {
	caddy.RegisterModule(new(App))
}

// App keeps audit entries: durably in its buffer first, then in its stores.
// What is recorded is decided by the audit_log handlers of the sites.
type App struct {
	// Buffer is where entries are kept until every store has them. Default: all of its
	// defaults.
	Buffer BufferConfig `json:"buffer,omitzero"`

	// Stores are the audit stores; each gets every entry, unless it says otherwise.
	// Default: one SQLite database, "audit.db" beside the buffer's directory.
	Stores []*stores.StoreConfig `json:"stores,omitempty"`

	// Keep says how long entries exist, by retention class. A change only ever extends:
	// what is stored is kept for as long as was said when it was stored, or longer.
	// Default: forever.
	Keep *stamps.KeepConfig `json:"keep,omitempty"`

	// Readable says how far back the members of an organization may read, by its plan.
	// It deletes nothing. Default: all that is kept.
	Readable *audit.Readable `json:"readable,omitempty"`

	// Organizations say whose a call is and which plan that organization has, where
	// neither the call nor its answer does. Default: nobody is asked.
	Organizations *stamps.Organizations `json:"organizations,omitempty"`

	dir      string
	stores   stores.List
	handlers []*Handler     // of all sites, complete before Start
	viewers  []*page.Viewer // the same
	http     *caddyhttp.App // theirs; nil without one
	log      *slog.Logger
	// descriptions are what the handlers' catalogs hold.
	descriptions catalogs.Descriptions
	// logsFiltered says that a log of this configuration has our filter.
	logsFiltered bool
	warned       bool

	// shared is the open buffer; nil before open and after Cleanup.
	shared atomic.Pointer[shared]
	// notOpen says that the log has said that calls are refused because there is none.
	notOpen atomic.Bool

	mu         sync.Mutex // held while provisioning handlers, opening, stopping and cleaning up
	openErr    error
	deliveries []*delivery           // in the order of stores
	sources    []*identity.KeySource // of all handlers' issuers; those that are being read
	cancel     context.CancelFunc
}

// BufferConfig says where the buffer is and what it may do.
type BufferConfig struct {
	// Directory holds the buffer's files and nothing else. It must be on a
	// local disk whose fsync can be trusted. Default: "audit_log/buffer" in
	// Caddy's data directory. Placeholders are replaced when it is loaded.
	//
	// Caddyfile: buffer <directory>
	Directory string `json:"directory,omitempty"`

	// MaxSize bounds the bytes of entries that wait for a store. A call whose
	// entry could not be kept within it is refused with 503 before the API is
	// called. Default: 8 GiB.
	MaxSize int64 `json:"max_size,omitempty"`

	// SegmentSize is when a file of the buffer is sealed, in bytes. Smaller
	// files give their space back sooner; larger ones are made less often.
	// Default: 64 MiB.
	SegmentSize int64 `json:"segment_size,omitempty"`

	// MaxWait is how long a call waits for the disk. A changing call whose
	// intent takes longer is refused; an answer whose outcome takes longer is
	// let go, and its entry follows when the disk answers. Default: 2s.
	MaxWait caddy.Duration `json:"max_wait,omitempty"`

	// ForgetAfter is how long a store that was removed from the configuration is
	// remembered. Within it, its entries are kept for it, as far as they take a fifth
	// of MaxSize, so that it goes on where it was when it comes back. Default: 24h.
	ForgetAfter caddy.Duration `json:"forget_after,omitempty"`

	// MinFree is how many bytes of the filesystem are left to others: with less
	// free, the buffer counts as full. Default: 256 MiB, or a twentieth of the
	// filesystem if that is less.
	MinFree int64 `json:"min_free,omitempty"`

	// OnFault is what happens to calls while the buffer is full, or its disk failing
	// or slow. "reject" refuses them with 503 before the API is called. "pass" lets
	// them through unrecorded: they are counted, a marker on the disk says so from
	// before the first one, and an audit.gap entry follows when the buffer works
	// again. Default: "reject".
	OnFault string `json:"on_fault,omitempty"`

	// DefinedAt is the file and line of these options, for error messages. Default: in a
	// Caddyfile where they stand, else nothing.
	//
	// Caddyfile: none
	DefinedAt string `json:"defined_at,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "audit_log", New: func() caddy.Module { return new(App) }}
}

// Provision checks the configuration. It opens no file, takes no lock and
// starts nothing, so that `caddy validate` can run beside a live server.
func (a *App) Provision(ctx caddy.Context) error {
	a.log = ctx.Slogger()
	a.logsFiltered = filteredBy(ctx)
	dir := a.Buffer.Directory
	if dir == "" {
		dir = filepath.Join(caddy.AppDataDir(), "audit_log", "buffer")
	}
	dir, err := caddy.NewReplacer().ReplaceOrErr(dir, true, true)
	if err != nil {
		return a.Buffer.wrong("the directory %q: %w", a.Buffer.Directory, err)
	}
	if a.dir, err = filepath.Abs(dir); err != nil {
		return a.Buffer.wrong("the directory %q: %w", dir, err)
	}
	if err := a.Buffer.check(a.dir); err != nil {
		return err
	}
	if a.stores, err = stores.Load(ctx, a.Stores, filepath.Join(filepath.Dir(a.dir), "audit.db")); err != nil {
		return err
	}
	if err := a.Keep.Check(); err != nil {
		return err
	}
	if err := a.checkOrganizations(); err != nil {
		return err
	}
	a.warned = commands.Provisioned(a)
	return registerMetrics(ctx.GetMetricsRegistry())
}

// wrong is an error about the buffer's options that says where they stand.
func (c *BufferConfig) wrong(format string, args ...any) error {
	err := fmt.Errorf("audit_log buffer: "+format, args...)
	if c.DefinedAt != "" {
		err = fmt.Errorf("%s: %w", c.DefinedAt, err)
	}
	return err
}

// check looks at the options and at where the directory is to be, without
// making it.
func (c *BufferConfig) check(dir string) error {
	switch {
	case c.OnFault != "" && c.OnFault != onFaultReject && c.OnFault != onFaultPass:
		return c.wrong("on_fault %q: it is reject or pass", c.OnFault)
	case c.MaxSize < 0 || c.SegmentSize < 0 || c.MaxWait < 0 || c.MinFree < 0 || c.ForgetAfter < 0:
		return c.wrong("max_size, segment_size, max_wait, min_free and forget_after must be above zero")
	case c.MaxSize > 0 && c.MaxSize < buffer.MaxPayload:
		return c.wrong("max_size %d: give it at least 1MiB", c.MaxSize)
	case c.SegmentSize > 0 && c.SegmentSize < buffer.MaxPayload:
		return c.wrong("segment_size %d: give it at least 1MiB", c.SegmentSize)
	}
	at := dir
	for {
		info, err := os.Stat(at)
		if err != nil {
			if parent := filepath.Dir(at); (errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)) && parent != at {
				at = parent
				continue
			}
			return c.wrong("the directory %q: %w: choose one that this user can write", dir, err)
		}
		if !info.IsDir() {
			return c.wrong("the directory %q: %q is a file: choose another directory", dir, at)
		}
		if err := machine.Writable(at); err != nil {
			return c.wrong("the directory %q: %q cannot be written: %w: change its owner or choose another directory", dir, at, err)
		}
		return nil
	}
}

const (
	onFaultReject = "reject"
	onFaultPass   = "pass"
)

func (a *App) options() buffer.Options {
	o := buffer.Options{
		MaxSize: a.Buffer.MaxSize, SegmentSize: a.Buffer.SegmentSize, MaxWait: time.Duration(a.Buffer.MaxWait),
		MinFree: a.Buffer.MinFree, Logger: a.log, OnCommit: onCommit, Gap: gapEntry,
		Pending: func(intent []byte) []byte { return audit.Pending(intent, time.Now()) },
	}
	if a.Buffer.OnFault == onFaultPass {
		o.OnFault = buffer.Pass
	}
	return o
}

// open opens the buffer and starts delivery, once. Start calls it, and so does
// the first call, since Caddy may start to listen before it starts this app.
func (a *App) open() (*shared, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.shared.Load(); s != nil || a.openErr != nil {
		return s, a.openErr
	}
	s, err := buffers.acquire(a.dir, a.options())
	if err != nil {
		a.openErr = a.Buffer.wrong("%w", err)
		return nil, a.openErr
	}
	holdHeadroom()
	s.join(a)
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	for _, n := range a.stores {
		a.deliveries = append(a.deliveries, a.deliverTo(ctx, s, n, a.log))
	}
	a.shared.Store(s)
	running.add(a)
	for _, h := range a.handlers {
		for _, i := range h.Issuers {
			if source := i.identity.Source; source != nil {
				source.Start(running.log)
				a.sources = append(a.sources, source)
			}
		}
	}
	return s, nil
}

// hold returns the open buffer, held for one call.
func (a *App) hold() (*shared, error) {
	s := a.shared.Load()
	var err error
	if s == nil {
		s, err = a.open()
	}
	if err == nil && s.hold() {
		return s, nil
	}
	// This configuration has been replaced, or Caddy is about to give it up
	// because it cannot start, and a connection brings one more call all the
	// same. It is recorded in the buffer of the configuration that is in force.
	if in := running.current(); in != nil && in != a {
		if s := in.shared.Load(); s != nil && s.hold() {
			return s, nil
		}
	}
	if err != nil && !errors.Is(err, errCleanedUp) {
		return nil, err
	}
	// None is: a reload has taken the audit log away.
	if s, err = buffers.acquire(a.dir, a.options()); err != nil {
		return nil, err
	}
	s.attribute(a)
	s.drain(a)
	return s, nil
}

var errCleanedUp = errors.New("this configuration has been replaced")

// Start opens the buffer and begins delivery.
func (a *App) Start() error {
	a.warn()
	a.descriptions.Keep(a.log)
	_, err := a.open()
	return err
}

// sawWarnings lets a test see what is logged.
var sawWarnings func([]string)

// warn logs the warnings about the configuration once.
func (a *App) warn() {
	if a.warned || len(a.handlers)+len(a.viewers) == 0 {
		return
	}
	a.warned = true
	warnings := a.warnings()
	if sawWarnings != nil {
		sawWarnings(warnings)
	}
	for _, w := range warnings {
		a.log.Warn("this configuration may not do what you want", "why", w)
	}
}

// Stop ends delivery and the reading of keys; what is not delivered stays in
// the buffer. Calls go on being recorded, and verified with the keys that are
// there: Caddy may end this app before its listeners.
func (a *App) Stop() error {
	// Before the lock, which a revision may want that is being appended. What is
	// not known by now stays unknown.
	for _, h := range a.handlers {
		h.folds.close()
		if h.lookups != nil {
			h.lookups.Close()
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cancel != nil {
		a.cancel()
		a.cancel = nil
	}
	// What hangs with its disk keeps the lease, so that nobody else delivers to that store.
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	for i, d := range a.deliveries {
		select {
		case <-d.done:
		case <-ctx.Done():
			a.log.Error("a delivery does not end; what it has not delivered stays in the buffer", "store", a.stores[i].Name)
		}
	}
	for _, source := range a.sources {
		source.Stop()
	}
	a.sources = nil
	return nil
}

// Cleanup lets the buffer go. Calls in flight may hold it for longer.
func (a *App) Cleanup() error {
	a.warn() // a configuration that is only validated is never started
	err := a.Stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	running.remove(a)
	a.openErr = errCleanedUp
	if s := a.shared.Swap(nil); s != nil {
		if s.leave(a) && !caddy.Exiting() {
			s.drain(a)
		}
		s.release()
	}
	return err
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
	_ commands.Examined  = (*App)(nil)
	_ page.Log           = (*App)(nil)
)
