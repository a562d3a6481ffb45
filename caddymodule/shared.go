package caddymodule

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
)

// closeWithin bounds how long the last user of a buffer waits for its writer.
const closeWithin = 10 * time.Second

// shared is a buffer that is open in this process, with all that belongs to
// its directory. Each configuration that uses it holds it, and so does each
// call in flight, because a reload does not wait for those. The last one to let
// go closes it.
type shared struct {
	dir string
	buf *buffer.Buffer
	key *audit.TokenKey

	mu     sync.Mutex
	users  int
	leases map[string]chan struct{}
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

// hold adds a user, and reports false if the last one has gone already.
func (s *shared) hold() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == 0 {
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
	last := s.users == 0
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
	mu   sync.Mutex // held while a buffer opens or closes
	open map[string]*shared
}

var buffers = pool{open: map[string]*shared{}}

// acquire returns the directory's buffer, held once for the caller.
func (p *pool) acquire(dir string, o buffer.Options) (*shared, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.open[dir]; s != nil && s.hold() {
		s.buf.Configure(o.MaxSize, o.MaxWait)
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
	s := &shared{dir: dir, buf: b, key: key, users: 1, leases: map[string]chan struct{}{}}
	p.open[dir] = s
	return s, nil
}

func (p *pool) close(s *shared) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[s.dir] == s {
		delete(p.open, s.dir)
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	if err := s.buf.Close(ctx); err != nil {
		slog.Default().Error("closing the audit buffer", "error", err)
	}
}

// loadTokenKey reads the directory's key, making it at the first start. It is
// no credential: with it, guessed passwords can be tried against the hashes.
func loadTokenKey(dir string) (*audit.TokenKey, error) {
	path := filepath.Join(dir, "token.key")
	key := new(audit.TokenKey)
	b, err := os.ReadFile(path)
	switch {
	case err == nil && len(b) == len(key):
		copy(key[:], b)
		return key, nil
	case err == nil:
		return nil, fmt.Errorf("reading token key %q: it has %d bytes instead of %d: restore it from a backup, or remove it to begin with a new one", path, len(b), len(key))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("reading token key: %w", err)
	}
	if _, err := rand.Read(key[:]); err != nil {
		return nil, fmt.Errorf("making token key %q: %w", path, err)
	}
	if err := writeDurably(path, key[:]); err != nil {
		return nil, fmt.Errorf("making token key %q: %w", path, err)
	}
	return key, nil
}

// writeDurably makes a file that is there whole or not at all.
func writeDurably(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(b); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	// Not every system can sync a directory; where it can, it has to.
	if err := dir.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return errors.Join(err, dir.Close())
	}
	return dir.Close()
}
