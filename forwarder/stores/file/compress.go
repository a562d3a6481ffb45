package file

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
)

const (
	suffixZstd = ".zst"
	suffixGzip = ".gz"
)

// suffix is that of compressed files, empty if there are none.
func (c Compression) suffix() string {
	switch c {
	case CompressZstd:
		return suffixZstd
	case CompressGzip:
		return suffixGzip
	}
	return ""
}

// pack compresses a rotated file. The original is removed once what was compressed is
// synced, has its name and was found to be the same. Killed at any point, the original
// is there or the other is complete.
func (s *Store) pack(ctx context.Context, r rotated) error {
	want, err := s.digest(ctx, r.name)
	if err != nil {
		return err
	}
	suffix := s.Compress.suffix()
	if len(r.packed) > 0 {
		// Of a process that died before the end, or of a person.
		suffix = r.packed[0]
	} else if err := s.compress(ctx, r.name, suffix); err != nil {
		return err
	}
	packed := r.name + suffix
	switch got, err := s.digest(ctx, packed); {
	case err != nil:
		return err
	case got != want:
		return fmt.Errorf("%s holds something else than the file that it was compressed from; both are kept: compare them, and move one away", packed)
	}
	if err := os.Remove(s.names.path(r.name)); err != nil {
		return err
	}
	s.step("original removed")
	return syncDir(s.names.dir)
}

// compress writes the compressed file beside the original.
func (s *Store) compress(ctx context.Context, name, suffix string) (err error) {
	from, err := os.Open(s.names.path(name))
	if err != nil {
		return err
	}
	defer from.Close()
	temporary := s.names.temporary(name + suffix)
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	to, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL|nofollow, s.Mode)
	if err != nil {
		return err
	}
	defer func() {
		to.Close()
		if err != nil {
			os.Remove(temporary)
		}
	}()
	s.step("compressing")
	if err := encode(to, &reader{ctx, from}, suffix); err != nil {
		return err
	}
	// The umask may have taken away too much.
	if err := errors.Join(to.Chmod(s.Mode), to.Sync()); err != nil {
		return err
	}
	s.step("compressed")
	if err := os.Rename(temporary, s.names.path(name+suffix)); err != nil {
		return err
	}
	s.step("compressed renamed")
	return syncDir(s.names.dir)
}

func encode(to io.Writer, from io.Reader, suffix string) error {
	var w io.WriteCloser
	if suffix == suffixGzip {
		w = gzip.NewWriter(to)
	} else {
		// One core: calls have more need of the others.
		z, err := zstd.NewWriter(to, zstd.WithEncoderConcurrency(1))
		if err != nil {
			return err
		}
		w = z
	}
	_, err := io.Copy(w, from)
	return errors.Join(err, w.Close())
}

// reader breaks off when its context ends.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// read calls visit with what a rotated file holds, decompressed.
func (s *Store) read(ctx context.Context, name string, visit func(io.Reader) error) error {
	f, err := os.Open(s.names.path(name))
	if err != nil {
		return err
	}
	defer f.Close()
	var from io.Reader = &reader{ctx, f}
	switch {
	case strings.HasSuffix(name, suffixZstd):
		z, err := zstd.NewReader(from, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return err
		}
		defer z.Close()
		from = z
	case strings.HasSuffix(name, suffixGzip):
		if from, err = gzip.NewReader(from); err != nil {
			return err
		}
	}
	return visit(from)
}

// digest identifies what a rotated file holds, decompressed.
func (s *Store) digest(ctx context.Context, name string) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	err = s.read(ctx, name, func(r io.Reader) error {
		_, err := io.Copy(h, r)
		return err
	})
	h.Sum(sum[:0])
	return sum, err
}
