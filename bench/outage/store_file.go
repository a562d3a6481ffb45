package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// fileStore is a store of NDJSON files. Its outage is that its directory is
// gone, as a filesystem is that is not mounted: root, too, cannot write to one
// whose place a plain file has taken.
type fileStore struct{ dir string }

func (*fileStore) name() string { return fileKind }
func (*fileStore) kind() string { return fileKind }
func (*fileStore) once() bool   { return false }

// block lets the file be rotated now and then.
func (s *fileStore) block() string {
	return fmt.Sprintf("store file %s {\n\tmax_size 4MiB\n}", filepath.Join(s.dir, "audit.ndjson"))
}

func (s *fileStore) away() string { return s.dir + ".away" }

func (s *fileStore) down(context.Context) error {
	err := os.Rename(s.dir, s.away())
	if err == nil {
		err = os.WriteFile(s.dir, nil, 0o600)
	}
	if err != nil {
		return fmt.Errorf("taking the store's directory away: %w", err)
	}
	return nil
}

func (s *fileStore) up(context.Context) error {
	if _, err := os.Stat(s.away()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := errors.Join(os.Remove(s.dir), os.Rename(s.away(), s.dir)); err != nil {
		return fmt.Errorf("giving the store's directory back: %w", err)
	}
	return nil
}

func (s *fileStore) close() error { return s.up(context.Background()) }

// arrivals reads the files in their order: the rotated ones by name, and then
// the one that is appended to.
func (s *fileStore) arrivals(context.Context) ([]rig.Entry, error) {
	names, err := s.files()
	if err != nil {
		return nil, err
	}
	return readFiles(names)
}

func (s *fileStore) files() ([]string, error) {
	names, err := filepath.Glob(filepath.Join(s.dir, "audit-*.ndjson"))
	return append(names, filepath.Join(s.dir, "audit.ndjson")), err
}

// readFiles reads files of one entry a line, one behind the other.
func readFiles(names []string) ([]rig.Entry, error) {
	var all []rig.Entry
	for _, name := range names {
		f, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading what arrived: %w", err)
		}
		entries, err := rig.Decode(io.Reader(bufio.NewReader(f)))
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("reading what arrived: %s: %w", name, err)
		}
		all = append(all, entries...)
	}
	return all, nil
}
