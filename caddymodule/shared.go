package caddymodule

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/attribution"
	"github.com/caddy-audit-log/caddy-audit-log/identity"
	"github.com/caddy-audit-log/caddy-audit-log/internal/durable"
)

// closeWithin bounds how long the last user of a buffer waits for its writer.
const closeWithin = 10 * time.Second

// defaultForgetAfter is how long a removed store is remembered.
const defaultForgetAfter = 24 * time.Hour

// shared is a buffer that is open in this process, with all that belongs to
// its directory. Each configuration that uses it holds it, and so does each
// call in flight, because a reload does not wait for those. The last one to let
// go closes it.
type shared struct {
	dir string
	buf *buffer.Buffer
	key *audit.TokenKey
	// known are the callers that the API has accepted, whatever the site.
	known *identity.Known
	// directory knows whose calls are, by the newest configuration's means.
	directory *attribution.Directory
	// lastSeen is when a sidecar was last at work on the directory before this one; zero
	// if none ever was.
	lastSeen time.Time
	// resolving are the entries in quarantine that an order is about, quarantinedEntry.
	resolving sync.Map

	mu    sync.Mutex
	users int
	ended bool // the last user has gone
	// generations are the configurations that use the buffer, oldest first.
	// There are two during a reload, and one otherwise.
	generations []*App
	last        *App // that left
	leases      map[string]chan struct{}

	begun     bool // a start is recorded, and no stop after it
	troubles  troubles
	beats     sync.Once
	stopDrain context.CancelFunc // ends a drain, if there is one
	passEnds  *time.Timer        // ends an order to let calls pass

	beaten  atomic.Int64 // lastHeartbeat
	beating sync.WaitGroup
	closing chan struct{} // closed when the last user has gone
	closed  chan struct{} // closed when the directory is free again
}

// lease is what a forwarder holds while it runs, so that two configurations
// never deliver to one store at once.
func (s *shared) lease(store string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leases[store] == nil {
		s.leases[store] = make(chan struct{}, 1)
	}
	return s.leases[store]
}

// join makes a configuration one of the buffer's: its settings count, and its
// stores hold the buffer.
func (s *shared) join(a *App) {
	s.mu.Lock()
	var before *App
	if n := len(s.generations); n > 0 {
		before = s.generations[n-1]
	} else if s.begun {
		before = s.last // its drain is cut short
	}
	if s.stopDrain != nil {
		s.stopDrain()
		s.stopDrain = nil
	}
	first := !s.begun
	s.begun = true
	s.generations = append(s.generations, a)
	s.attach(a)
	s.removeOthers(a)
	s.mu.Unlock()

	if first {
		s.began(a)
	} else if before != nil {
		s.changed(before, a)
	}
}

// attach makes a configuration's settings count, for the buffer and for its stores.
// The caller holds mu.
func (s *shared) attach(a *App) {
	s.buf.Configure(a.options())
	s.attribute(a)
	known := s.buf.Stats().Stores
	for _, n := range a.stores {
		to := n.Attachment(a.Buffer.MaxSize)
		if before := known[n.Name].Destination; before != "" && before != to.Destination {
			// The configuration before may still deliver there, and move the position.
			s.buf.Hold(n.Name)
			continue
		}
		if err := s.buf.Attach(n.Name, to); err != nil {
			a.log.Error("attaching a store", "store", n.Name, "error", err) // its destination is the same
		}
	}
}

// attribute makes it count how a configuration finds out whose calls are.
func (s *shared) attribute(a *App) {
	o, err := a.attributionOptions()
	if err == nil {
		err = s.directory.Configure(o)
	}
	if err != nil {
		// Provisioning has looked at it; what only the machine knows may have changed since.
		a.log.Error("asking whose calls are; it goes on by the configuration before", "error", err)
	}
}

// removeOthers tells the buffer which of its stores no configuration names any longer.
// The caller holds mu.
func (s *shared) removeOthers(a *App) {
	st := s.buf.Stats()
	for name, p := range st.Stores {
		if p.Until != 0 || slices.ContainsFunc(s.generations, func(g *App) bool { return g.stores.Has(name) }) {
			continue
		}
		until := time.Now().Add(cmp.Or(time.Duration(a.Buffer.ForgetAfter), defaultForgetAfter))
		a.log.Warn("a store is no longer configured; until then its entries are kept for it, as far as they take a fifth of max_size",
			"store", name, "until", until.Format(time.RFC3339), "position", p.Position, "head", st.Head, "quarantined", p.Quarantined)
		s.buf.Remove(name, until)
	}
}

// leave takes a configuration away. If another one goes on, be it the one after
// or, when a reload has failed, the one before, its settings count, and stores
// that it does not name hold nothing any longer. Without another one the
// process is ending, or a reload has named another directory, and everything
// stays held; it is the last one then.
func (s *shared) leave(a *App) (last bool) {
	s.mu.Lock()
	s.last = a
	newest := len(s.generations) > 0 && s.generations[len(s.generations)-1] == a
	s.generations = slices.DeleteFunc(s.generations, func(g *App) bool { return g == a })
	if len(s.generations) == 0 {
		s.mu.Unlock()
		return true
	}
	next := s.generations[len(s.generations)-1]
	if newest {
		s.attach(next)
	}
	s.removeOthers(next)
	s.mu.Unlock()
	if newest {
		s.changed(a, next) // a failed reload: the one before is in force again
	}
	return false
}

// log is the newest configuration's logger, or that of the last one that left.
func (s *shared) log() *slog.Logger {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.generations); n > 0 {
		return s.generations[n-1].log
	}
	if s.last != nil {
		return s.last.log
	}
	return slog.Default()
}

// hold adds a user, and reports false if the last one has gone already.
func (s *shared) hold() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.users++
	return true
}

// release takes a user away. The last one closes the buffer; an opener of the
// same directory waits for that.
func (s *shared) release() {
	s.mu.Lock()
	s.users--
	s.ended = s.users == 0
	last := s.ended
	s.mu.Unlock()
	if last {
		buffers.close(s)
	}
}

// pool holds the open buffers by the absolute path of their directory, and by
// nothing else: a changed option must never open a directory twice.
//
// It is not caddy.UsagePool because that forgets a value before it destroys it,
// so that a new generation could meet the lock that the old one still holds.
type pool struct {
	mu   sync.Mutex         // held while a buffer opens
	open map[string]*shared // until it is closed
}

var buffers = pool{open: map[string]*shared{}}

// acquire returns the directory's buffer, held once for the caller. When the
// last user has just gone it waits until the buffer is closed, at most
// closeWithin.
func (p *pool) acquire(dir string, o buffer.Options) (*shared, error) {
	for {
		s, err := p.tryAcquire(dir, o)
		if err != nil {
			return nil, err
		}
		if s.hold() {
			return s, nil
		}
		<-s.closed
	}
}

// tryAcquire returns the directory's buffer, opened if it is not open.
func (p *pool) tryAcquire(dir string, o buffer.Options) (*shared, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.open[dir]; s != nil {
		return s, nil
	}
	b, err := buffer.Open(dir, o)
	if err != nil {
		return nil, err
	}
	key, err := loadTokenKey(dir)
	if err != nil {
		return nil, errors.Join(err, b.Close(context.Background()))
	}
	lastSeen := lastSeenIn(dir)
	known := identity.NewKnown()
	if err := loadKnown(dir, known); err != nil && o.Logger != nil {
		o.Logger.Warn("reading the callers that are known; they are learned anew", "error", err)
	}
	directory, err := attribution.New(attribution.Options{File: organizationsPath(dir), Logger: o.Logger})
	if err != nil {
		return nil, errors.Join(err, b.Close(context.Background()))
	}
	s := &shared{dir: dir, directory: directory, buf: b, key: key, known: known, lastSeen: lastSeen, leases: map[string]chan struct{}{}, closing: make(chan struct{}), closed: make(chan struct{})}
	p.open[dir] = s
	s.resumePass()
	return s, nil
}

// close closes a buffer that nobody uses.
func (p *pool) close(s *shared) {
	close(s.closing)
	s.mu.Lock()
	if s.passEnds != nil {
		s.passEnds.Stop()
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	said := make(chan struct{})
	go func() {
		defer close(said)
		s.beating.Wait()
		s.stopped()
		s.saveKnown()
		if err := s.directory.Close(); err != nil {
			s.log().Warn("writing whose projects are; the next start learns it anew", "error", err)
		}
	}()
	select {
	case <-said:
	case <-ctx.Done(): // the disk hangs, and a stop must end all the same
	}
	if err := s.buf.Close(ctx); err != nil {
		s.log().Error("closing the audit buffer", "error", err)
	}
	p.mu.Lock()
	delete(p.open, s.dir)
	p.mu.Unlock()
	close(s.closed)
}

// idle waits until every buffer below a directory is closed, drains included, or ctx ends.
func (p *pool) idle(ctx context.Context, below string) error {
	for {
		p.mu.Lock()
		var one *shared
		for dir, s := range p.open {
			if strings.HasPrefix(dir, below+string(filepath.Separator)) {
				one = s
			}
		}
		p.mu.Unlock()
		if one == nil {
			return nil
		}
		select {
		case <-one.closed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the audit buffer %q to be delivered: %w", one.dir, ctx.Err())
		}
	}
}

// apps are the running configurations with a buffer, oldest first. The newest
// is the one that commands and metrics are about; while a configuration is only
// validated there is none.
type apps struct {
	mu   sync.Mutex
	list []*App
}

var running apps

func (r *apps) add(a *App) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, a)
}

func (r *apps) remove(a *App) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = slices.DeleteFunc(r.list, func(o *App) bool { return o == a })
}

// current is nil when no configuration with an audit log is running.
func (r *apps) current() *App {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) == 0 {
		return nil
	}
	return r.list[len(r.list)-1]
}

// startWithin bounds how long a question waits for a configuration to start. Caddy's
// endpoint and its listeners may be there before this app is.
const startWithin = time.Second

// await is current, once there is one.
func (r *apps) await(ctx context.Context) *App {
	for end := time.Now().Add(startWithin); ; {
		a := r.current()
		if a != nil || time.Now().After(end) {
			return a
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(startWithin / 50):
		}
	}
}

// log is the current configuration's logger, for what outlives the one that it
// began with.
func (r *apps) log() *slog.Logger {
	if a := r.current(); a != nil {
		return a.log
	}
	return slog.Default()
}

// loadTokenKey reads the directory's key, making it at the first start. It is
// no credential: with it, guessed passwords can be tried against the hashes.
func loadTokenKey(dir string) (*audit.TokenKey, error) {
	key, err := operator.ReadTokenKey(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	path := operator.TokenKeyPath(dir)
	key = new(audit.TokenKey)
	if _, err := rand.Read(key[:]); err != nil {
		return nil, fmt.Errorf("making token key %q: %w", path, err)
	}
	if err := writeDurably(path, key[:]); err != nil {
		return nil, fmt.Errorf("making token key %q: %w", path, err)
	}
	return key, nil
}

// keepTokenKey writes the key again if somebody has deleted it: with another one,
// nobody would find what a credential did before.
func (s *shared) keepTokenKey() {
	path := operator.TokenKeyPath(s.dir)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		if s.troubles.ended("token key") {
			s.log().Info("the token key is there again", "file", path)
		}
		return
	}
	if err := writeDurably(path, s.key[:]); err != nil {
		if s.troubles.failed("token key") {
			s.log().Error("writing the token key again, which was deleted behind our back; it is tried again each minute", "file", path, "error", err)
		}
		return
	}
	s.troubles.ended("token key")
	s.log().Error("the token key was deleted behind our back; it is written again", "file", path)
}

// writeDurably makes a file that is there whole or not at all.
func writeDurably(path string, b []byte) error {
	return durable.WriteFile(path, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}
