package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Probe says whether a store would take the record, beside one that another process
// may have open: it writes it to a file of its own in the directory, syncs and removes
// that. The live file and its lock are opened and left as they are.
func Probe(ctx context.Context, c Config, probe forwarder.Record) error {
	path, err := filepath.Abs(c.Path)
	if err == nil {
		err = tryOut(ctx, namesOf(path), probe)
	}
	if err != nil {
		return fmt.Errorf("trying out audit store %q: %w%s", path, err, cure(err))
	}
	return nil
}

func tryOut(ctx context.Context, n names, probe forwarder.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, path := range []string{n.path(n.base), n.lock()} {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%q is not a regular file: name another", path)
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|nofollow, 0)
		if err != nil {
			return err
		}
		f.Close()
	}
	dir, err := existing(n.dir)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, n.probe())
	if err != nil {
		return fmt.Errorf("creating a file in its directory: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(appendLines(nil, []forwarder.Record{probe})); err != nil {
		return err
	}
	return f.Sync()
}

// existing is the directory, or the nearest one above it that there is.
func existing(dir string) (string, error) {
	for {
		info, err := os.Stat(dir)
		switch {
		case err == nil && !info.IsDir():
			return "", fmt.Errorf("%q is not a directory: name another file", dir)
		case err == nil:
			return dir, nil
		case !errors.Is(err, fs.ErrNotExist) || filepath.Dir(dir) == dir:
			return "", err
		}
		dir = filepath.Dir(dir)
	}
}
