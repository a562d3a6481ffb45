package file

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func modeOf(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func TestFilesAreForThoseWhoMayReadThem(t *testing.T) {
	for mode, dir := range map[fs.FileMode]fs.FileMode{0: 0o700, 0o640: 0o750, 0o644: 0o755} {
		path := newPath(t)
		s := open(t, Config{Path: path, Mode: mode, MaxSize: 1})
		write(t, s, 1, 1)
		write(t, s, 2, 2)
		if mode == 0 {
			mode = 0o600
		}
		entries, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(entries) != 3 {
			t.Fatalf("%v, %v", entries, err)
		}
		for _, e := range entries {
			if got := modeOf(t, filepath.Join(filepath.Dir(path), e.Name())); got != mode {
				t.Errorf("%s: mode %v, want %v", e.Name(), got, mode)
			}
		}
		if got := modeOf(t, filepath.Dir(path)); got != dir {
			t.Errorf("directory: mode %v, want %v", got, dir)
		}
	}
}

func TestAWideModeIsNarrowedWithAWarning(t *testing.T) {
	path := newPath(t)
	s := open(t, Config{Path: path})
	write(t, s, 1, 1)
	s.Close()
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	var log logBuffer
	s, err := Open(t.Context(), Config{Path: path, Mode: 0o640}, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := modeOf(t, path); got != 0o640 {
		t.Errorf("mode %v", got)
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, log.String())
	}
}

func TestHalfALineIsCutOffAtTheNextOpen(t *testing.T) {
	half := record(3).JSON[:200]
	for name, torn := range map[string][]byte{
		"some of a line": half, "a long one": bytes.Repeat(half, 1000), "zeros": make([]byte, 5000), "one byte": []byte("{"),
	} {
		for _, whole := range []int{0, 2} {
			path := newPath(t)
			s := open(t, Config{Path: path})
			write(t, s, 1, whole)
			s.Close()
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			f.Write(torn)
			f.Close()
			s = open(t, Config{Path: path})
			write(t, s, whole+1, whole+2)
			if diff := cmp.Diff(numbers(1, whole+2), stored(t, path)); diff != "" {
				t.Errorf("%s behind %d entries (-want +got):\n%s", name, whole, diff)
			}
		}
	}
}

func TestTwoStoresNeverHaveOneFile(t *testing.T) {
	path := newPath(t)
	first := open(t, Config{Path: path, MaxSize: 1})
	for range 3 { // also once it is rotated
		write(t, first, 1, 2)
		_, err := Open(t.Context(), Config{Path: path}, nil)
		if err == nil || !strings.Contains(err.Error(), "stop it, or name another file") || !strings.Contains(err.Error(), path) {
			t.Fatalf("a second store: %v", err)
		}
	}
	first.Close()
	open(t, Config{Path: path})
}

func TestWhoRemovesTheLockLetsNobodyElseIn(t *testing.T) {
	path := newPath(t)
	first := open(t, Config{Path: path})
	lock := first.names.lock()
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	write(t, first, 1, 1) // takes it again
	if _, err := Open(t.Context(), Config{Path: path}, nil); err == nil {
		t.Fatal("a second store opened it")
	}
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	second := open(t, Config{Path: path})
	if err := first.Write(t.Context(), records(2, 2)); err == nil {
		t.Error("it wrote beside the one that has the lock")
	}
	write(t, second, 2, 3)
	if diff := cmp.Diff(numbers(1, 3), stored(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatCannotBeOpenedSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(plain, link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"":                           "name a file, as in",
		dir:                          "it is not a regular file: name another",
		link:                         "it is not a regular file: name another",
		filepath.Join(plain, "file"): "is not a directory: name another file",
	} {
		_, err := Open(t.Context(), Config{Path: path}, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", path, err, want)
		}
	}
}

func TestUnfinishedFilesAreRemovedAndOthersAreNot(t *testing.T) {
	path := newPath(t)
	s := open(t, Config{Path: path})
	dir := filepath.Dir(path)
	s.Close()
	const stamp = "audit-20200101T000000.000000000Z.ndjson"
	others := []string{"notes.txt", "audit-old.ndjson", "." + stamp + ".bak", ".other-20200101T000000.000000000Z.ndjson.gz.tmp"}
	for _, name := range append([]string{"." + stamp + ".zst.tmp", ".audit.ndjson.probe-1"}, others...) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open(t, Config{Path: path, Keep: 1, KeepFor: 1})
	got := listing(t, path)
	want := []string{"." + stamp + ".bak", ".other-20200101T000000.000000000Z.ndjson.gz.tmp", "audit-old.ndjson", "audit.ndjson", "notes.txt"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAnEndedContextWritesNothing(t *testing.T) {
	path := newPath(t)
	s := open(t, Config{Path: path})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Write(ctx, records(1, 3)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	s.Close()
	if err := s.Write(t.Context(), records(1, 3)); err == nil || !strings.Contains(err.Error(), "it is closed") {
		t.Error(err)
	}
	if got := stored(t, path); len(got) != 0 {
		t.Errorf("%d entries", len(got))
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestADocumentOfSeveralLinesIsOneLine(t *testing.T) {
	path := newPath(t)
	s := open(t, Config{Path: path})
	r := record(1)
	r.JSON = bytes.ReplaceAll(r.JSON, []byte(`,"`), []byte(",\r\n\t\""))
	if err := s.Write(t.Context(), []forwarder.Record{r, record(2)}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(numbers(1, 2), stored(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheProbeWritesBesideAStoreThatIsOpen(t *testing.T) {
	path := newPath(t)
	if err := Probe(t.Context(), Config{Path: path}, record(1)); err != nil {
		t.Errorf("before there is a directory: %v", err)
	}
	s := open(t, Config{Path: path})
	write(t, s, 1, 2)
	if err := Probe(t.Context(), Config{Path: path}, record(3)); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"audit.ndjson"}, listing(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(numbers(1, 2), stored(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := Probe(t.Context(), Config{Path: filepath.Dir(path)}, record(3)); err == nil {
		t.Error("a directory is no file")
	}
}
