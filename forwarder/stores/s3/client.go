package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"
)

// What an answer means to this store, beside that it failed.
var (
	errNotFound    = errors.New("it is not there")
	errExists      = errors.New("it is there already")
	errNoCondition = errors.New("the server knows no If-None-Match")
	errArchived    = errors.New("it is in a storage class that cannot be read at once: restore it first")
)

// bucket is what this store does with its bucket.
type bucket interface {
	// put makes an object. With ifAbsent it returns errExists if there is one, and
	// errNoCondition if the server cannot do that.
	put(ctx context.Context, key string, body []byte, meta map[string]string, kept time.Time, ifAbsent bool) error
	// head returns errNotFound if there is none.
	head(ctx context.Context, key string) (info, error)
	// get returns an object's bytes. It returns errNotFound if there is none, and
	// errArchived if it cannot be read at once.
	get(ctx context.Context, key string) (io.ReadCloser, error)
	// list yields the names that begin with a prefix and come after another one.
	list(ctx context.Context, prefix, after string) iter.Seq2[info, error]
	// prefixes yields the directories directly below one.
	prefixes(ctx context.Context, prefix string) iter.Seq2[string, error]
}

// info is what a server says about an object.
type info struct {
	key  string
	size int64
	// meta has the user's metadata, by names in lower case. A listing has none.
	meta map[string]string
}

// client is a bucket behind an endpoint. It is for one goroutine at a time.
type client struct {
	c       Config
	target  target
	core    *minio.Core
	http    *http.Transport
	known   *secrets
	timeout time.Duration
}

func newClient(c Config, t target) (*client, error) {
	known := new(secrets)
	transport, err := c.transport()
	if err != nil {
		return nil, err
	}
	lookup := minio.BucketLookupPath
	switch c.Addressing {
	case AddressingVirtual:
		lookup = minio.BucketLookupDNS
	case "":
		if t.aws() {
			lookup = minio.BucketLookupAuto
		}
	}
	core, err := minio.NewCore(t.host, &minio.Options{
		Creds:  credentials.New(c.credentials(known, transport)),
		Secure: t.scheme == "https", Region: t.region, BucketLookup: lookup,
		Transport:  &bounded{next: transport},
		MaxRetries: 1, // the forwarder tries again
	})
	if err != nil {
		return nil, err
	}
	core.SetAppInfo("caddy-audit-log", "1")
	return &client{c: c, target: t, core: core, http: transport, known: known, timeout: c.Timeout}, nil
}

func (b *client) close() { b.http.CloseIdleConnections() }

// minLock is the least that a lock without a term of its own holds.
const minLock = 24 * time.Hour

// lockedUntil is until when an object is locked whose entries are kept until then.
func (l Lock) lockedUntil(now, kept time.Time) time.Time {
	if l.Term > 0 {
		kept = now.Add(l.Term)
	} else if least := now.Add(minLock); kept.Before(least) {
		kept = least
	}
	return kept.UTC().Truncate(time.Second).Add(time.Second)
}

// putOptions are those of everything that is written.
func (b *client) putOptions(now, kept time.Time) minio.PutObjectOptions {
	o := minio.PutObjectOptions{
		// The signature covers the body's hash all the same: it is given.
		DisableContentSha256: true,
	}
	if b.c.Lock.Mode != "" {
		o.Mode = minio.RetentionMode(strings.ToUpper(b.c.Lock.Mode))
		o.RetainUntilDate = b.c.Lock.lockedUntil(now, kept)
	}
	if b.c.LegalHold {
		o.LegalHold = minio.LegalHoldEnabled
	}
	switch b.c.Encryption {
	case EncryptionAES256:
		o.ServerSideEncryption = encrypt.NewSSE()
	case EncryptionKMS:
		o.ServerSideEncryption, _ = encrypt.NewSSEKMS(b.c.KMSKey, nil) // it fails for a context only
	}
	return o
}

// put writes an object. Kept is until when what is in it is kept, for the lock.
func (b *client) put(ctx context.Context, key string, body []byte, meta map[string]string, kept time.Time, ifAbsent bool) error {
	return b.do(ctx, "writing object "+quote(key), func(ctx context.Context) error {
		sum := sha256.Sum256(body)
		o := b.putOptions(time.Now(), kept)
		o.ContentType = "application/zstd"
		if strings.HasSuffix(key, suffix) {
			o.StorageClass = b.c.StorageClass
		} else {
			o.ContentType = "application/json" // the marker and manifests are read again
		}
		o.UserMetadata = map[string]string{"x-amz-checksum-sha256": base64.StdEncoding.EncodeToString(sum[:])}
		for name, value := range meta {
			o.UserMetadata["x-amz-meta-"+name] = value
		}
		if ifAbsent {
			o.SetMatchETagExcept("*")
		}
		_, err := b.core.PutObject(ctx, b.target.bucket, key, bytes.NewReader(body), int64(len(body)), "", hex.EncodeToString(sum[:]), o)
		switch e := minio.ToErrorResponse(err); {
		case err == nil:
			return nil
		case ifAbsent && e.StatusCode == http.StatusPreconditionFailed:
			return errExists
		case ifAbsent && e.StatusCode == http.StatusNotImplemented:
			return errNoCondition
		}
		return err
	})
}

func (b *client) head(ctx context.Context, key string) (i info, err error) {
	err = b.do(ctx, "asking for object "+quote(key), func(ctx context.Context) error {
		o, err := b.core.StatObject(ctx, b.target.bucket, key, minio.StatObjectOptions{})
		switch e := minio.ToErrorResponse(err); {
		case e.Code == minio.NoSuchKey:
			return errNotFound
		case err != nil:
			return err
		}
		i = info{key: key, size: o.Size, meta: map[string]string{}}
		for name, value := range o.UserMetadata {
			i.meta[strings.ToLower(name)] = value
		}
		return nil
	})
	return i, err
}

func (b *client) get(ctx context.Context, key string) (body io.ReadCloser, err error) {
	// How long it takes depends on the size, but something must come within each timeout.
	ctx, stall := b.watch(context.WithValue(ctx, unboundedKey{}, true))
	err = b.doWithin(ctx, "reading object "+quote(key), func(ctx context.Context) error {
		r, _, _, err := b.core.GetObject(ctx, b.target.bucket, key, minio.GetObjectOptions{})
		switch minio.ToErrorResponse(err).Code {
		case minio.NoSuchKey:
			return errNotFound
		case "InvalidObjectState":
			return errArchived
		}
		body = r
		return err
	})
	if err != nil {
		stall.end()
		return nil, err
	}
	return &watchedBody{body, ctx, stall}, nil
}

// stall ends a request in which nothing has come for the time of one.
type stall struct {
	timer  *time.Timer
	cancel context.CancelCauseFunc
	limit  time.Duration
}

func (b *client) watch(ctx context.Context) (context.Context, *stall) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &stall{time.AfterFunc(b.timeout, func() { cancel(errTimeout) }), cancel, b.timeout}
}

// pause stops the clock while the caller does something else, and resume starts it anew.
func (s *stall) pause()  { s.timer.Stop() }
func (s *stall) resume() { s.timer.Reset(s.limit) }

func (s *stall) end() {
	s.timer.Stop()
	s.cancel(nil)
}

// watchedBody is an answer's body.
type watchedBody struct {
	io.ReadCloser
	ctx   context.Context
	stall *stall
}

func (w *watchedBody) Read(p []byte) (int, error) {
	w.stall.resume()
	defer w.stall.pause()
	n, err := w.ReadCloser.Read(p)
	if err != nil && errors.Is(context.Cause(w.ctx), errTimeout) {
		err = fmt.Errorf("nothing came for %s: check that the server keeps up, or give it a longer timeout", w.stall.limit)
	}
	return n, err
}

func (w *watchedBody) Close() error {
	w.stall.end()
	return w.ReadCloser.Close()
}

func (b *client) list(ctx context.Context, prefix, after string) iter.Seq2[info, error] {
	return b.each(ctx, minio.ListObjectsOptions{Prefix: prefix, StartAfter: after, Recursive: true})
}

func (b *client) prefixes(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for i, err := range b.each(ctx, minio.ListObjectsOptions{Prefix: prefix}) {
			if err != nil {
				yield("", err)
				return
			}
			if strings.HasSuffix(i.key, "/") && i.key != prefix && !yield(i.key, nil) {
				return
			}
		}
	}
}

func (b *client) each(ctx context.Context, o minio.ListObjectsOptions) iter.Seq2[info, error] {
	return func(yield func(info, error) bool) {
		ctx, stall := b.watch(ctx) // for each page
		defer stall.end()
		err := b.doWithin(ctx, "listing "+quote(o.Prefix), func(ctx context.Context) error {
			last := ""
			for i := range b.core.ListObjectsIter(ctx, b.target.bucket, o) {
				if i.Err != nil {
					return i.Err
				}
				// A server that gives the same page again and again must not keep us.
				if i.Key <= last && last != "" && !strings.HasSuffix(i.Key, "/") && !strings.HasSuffix(last, "/") {
					return fmt.Errorf("the names are not in order: %s comes after %s", quote(i.Key), quote(last))
				}
				last = i.Key
				if !strings.HasPrefix(i.Key, o.Prefix) {
					continue
				}
				stall.pause()
				if !yield(info{key: i.Key, size: i.Size}, nil) {
					return errStopped
				}
				stall.resume()
			}
			return ctx.Err()
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(info{}, err)
		}
	}
}

var errStopped = errors.New("stopped")

// do makes one request and makes an error fit for a log.
func (b *client) do(ctx context.Context, doing string, request func(ctx context.Context) error) error {
	bounded, cancel := context.WithTimeoutCause(ctx, b.timeout, errTimeout)
	defer cancel()
	return b.doWithin(bounded, doing, request)
}

// doWithin is do without a time of its own.
func (b *client) doWithin(ctx context.Context, doing string, request func(ctx context.Context) error) error {
	var asked retryAfterSaid
	err := request(context.WithValue(ctx, retryAfterKey{}, &asked))
	if err == nil || errors.Is(err, errNotFound) || errors.Is(err, errExists) || errors.Is(err, errNoCondition) || errors.Is(err, errArchived) || errors.Is(err, errStopped) {
		return err
	}
	return b.failure(ctx, doing, err, time.Duration(asked.Load()))
}
