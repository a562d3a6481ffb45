// Package s3 is the audit store in a bucket of S3 or of a server that speaks its
// protocol: batches become immutable objects of compressed NDJSON, which the server can
// lock, so that nobody can delete or change them for a time.
//
// Objects are named by what is in them: class, buffer, sequences, arrival and hash. Its
// delivery is at least once: each sequence of a buffer comes into exactly one object,
// but all revisions of an entry are there, and where the server knows no conditional
// writes a repeat can be.
package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Store writes batches to one bucket. It is a forwarder.Store, with delivery
// at_least_once, and a forwarder.NoteKeeper.
//
// What Write has returned nil for, the server has acknowledged with a 200 after it had
// checked the SHA-256 of the object. That this means durable is S3's promise; of a server
// of your own, docs/s3.md says what has to be configured.
type Store struct {
	c      Config
	target target
	log    *slog.Logger
	now    func() time.Time
	bucket bucket
	// release closes the connections.
	release func()

	// stop ends a Write that is under way when Close is called.
	stop   context.CancelFunc
	closed context.Context

	// mu lets Close wait for that, and guards what follows.
	mu    sync.Mutex
	notes forwarder.Notes
	// inDoubt is the object of which nobody knows whether it is there, or comes; nil if
	// there is none. noted is the name that the note has, and settled that it says so of it,
	// or has none. closedDay is the last day that may have a manifest.
	inDoubt   *object
	noted     string
	settled   bool
	closedDay time.Time
	// conditional says that the server knows If-None-Match.
	conditional bool
	known       map[string]*known
	// written has the entries that were written since a Write last succeeded.
	written map[[sha256.Size]byte]bool
	// damaged has the names of objects that were read and are not what they say.
	damaged map[string]bool
	// kept is until when the entry is kept, of all that this store was given, that is kept
	// the longest: what is said of the entries is locked for as long.
	kept time.Time
}

var (
	_ forwarder.Store      = (*Store)(nil)
	_ forwarder.NoteKeeper = (*Store)(nil)
)

// Open checks that the bucket can be used as the configuration wants, and makes the
// marker at its prefix if there is none. A nil logger discards.
func Open(ctx context.Context, c Config, log *slog.Logger) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c = c.withDefaults()
	t, err := c.check()
	if err != nil {
		return nil, err
	}
	b, err := newClient(c, t)
	if err != nil {
		return nil, fmt.Errorf("opening audit store %q: %w", t.location(), err)
	}
	if t.scheme == "http" && !t.loopback() {
		log.Warn("audit entries travel unencrypted to this store", "location", t.location())
	}
	s := newStore(c, t, b, log)
	s.release = b.close
	err = b.prepare(ctx)
	if err == nil {
		err = s.mark(ctx)
	}
	if err != nil {
		b.close()
		return nil, fmt.Errorf("opening audit store %q: %w", t.location(), err)
	}
	return s, nil
}

func newStore(c Config, t target, b bucket, log *slog.Logger) *Store {
	s := &Store{
		c: c, target: t, log: log, now: time.Now, bucket: b, release: func() {}, conditional: true, settled: true,
		known: map[string]*known{}, written: map[[sha256.Size]byte]bool{}, damaged: map[string]bool{},
	}
	s.closed, s.stop = context.WithCancel(context.Background())
	return s
}

// key is the whole name of an object.
func (s *Store) key(name string) string { return s.target.key(name) }

func (t target) key(name string) string {
	if t.prefix == "" {
		return name
	}
	return t.prefix + "/" + name
}

// prepare sees to the bucket.
func (b *client) prepare(ctx context.Context) error {
	if b.c.Create {
		err := b.do(ctx, "making bucket "+quote(b.target.bucket), func(ctx context.Context) error {
			there, err := b.core.BucketExists(ctx, b.target.bucket)
			if err != nil || there {
				return err
			}
			err = b.core.MakeBucket(ctx, b.target.bucket, minio.MakeBucketOptions{Region: b.target.region, ObjectLocking: b.c.Lock.Mode != ""})
			if minio.ToErrorResponse(err).Code == "BucketAlreadyOwnedByYou" { // another one was quicker
				return nil
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if b.c.Lock.Mode == "" && !b.c.LegalHold {
		return nil // the marker finds out about all else
	}
	return b.do(ctx, "asking bucket "+quote(b.target.bucket)+" for its lock", func(ctx context.Context) error {
		enabled, _, _, _, err := b.core.GetObjectLockConfig(ctx, b.target.bucket)
		if minio.ToErrorResponse(err).Code == "ObjectLockConfigurationNotFoundError" || err == nil && enabled != "Enabled" {
			return &credentialError{fmt.Sprintf("bucket %q has no Object Lock: make a new bucket with it (aws s3api create-bucket --object-lock-enabled-for-bucket), turn it on for this one where the server can, or take lock and legal_hold out", b.target.bucket)}
		}
		if err != nil {
			return err
		}
		v, err := b.core.GetBucketVersioning(ctx, b.target.bucket)
		if err == nil && !v.Enabled() {
			return &credentialError{fmt.Sprintf("bucket %q has Object Lock and no versioning, so that a lock could be written over: turn versioning on (aws s3api put-bucket-versioning)", b.target.bucket)}
		}
		return err
	})
}

// marker is what the object at the prefix says. It never changes, so that all that open
// the store make the same.
var marker = []byte(`{"kind":"caddy-audit-log","layout":1,"documentation":"docs/s3.md"}` + "\n")

// mark makes the marker, or finds it. That shows, before there is an entry to deliver,
// whether this store may write with all its options, and whether the server keeps a
// second write of a name out: the first object that it would be tried on otherwise has
// entries. In a locked bucket it is the only object that trying leaves, once.
func (s *Store) mark(ctx context.Context) error {
	put := func() error { return s.create(ctx, markerName, marker, nil, s.kept) }
	err := put()
	if err == nil && s.conditional {
		err = put()
		if err == nil && s.conditional {
			s.withoutCondition() // it has written it twice
		}
	}
	if errors.Is(err, errExists) {
		return s.checkMarker(ctx)
	}
	return err
}

// checkMarker looks at what is at the marker's name.
func (s *Store) checkMarker(ctx context.Context) error {
	b, err := readSmall(ctx, s.bucket, s.key(markerName), 4<<10)
	if err != nil {
		return err
	}
	if !bytes.Equal(b, marker) {
		return fmt.Errorf("object %q is not that of this version of the store: give the store another prefix, or use the version that made it", s.key(markerName))
	}
	return nil
}

// withoutCondition goes on without conditional writes.
func (s *Store) withoutCondition() {
	s.conditional = false
	s.log.Warn("the server keeps no second write of a name out (If-None-Match): a repeated upload makes another version of the same object",
		"location", s.target.location())
}

// Describe names the bucket.
func (s *Store) Describe() forwarder.Description { return s.c.describe(s.target) }

// Close ends a Write that is under way, waits for it and closes the connections.
func (s *Store) Close() error {
	s.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release()
	return nil
}
