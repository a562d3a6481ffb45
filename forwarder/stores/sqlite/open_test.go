package sqlite

import (
	"bytes"
	"database/sql"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// modes returns the permissions of a store's files, by suffix.
func modes(t *testing.T, path string) map[string]fs.FileMode {
	t.Helper()
	m := map[string]fs.FileMode{}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		m[suffix] = info.Mode().Perm()
	}
	return m
}

var private = map[string]fs.FileMode{"": 0o600, "-wal": 0o600, "-shm": 0o600}

func TestDirectoryIsCreatedPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	openStore(t, filepath.Join(dir, "audit.db"))
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v; want 0700", info.Mode(), err)
	}
}

func TestWideModesAreNarrowedWithAWarning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.db")
	first := openStore(t, path)
	write(t, first, records(t, 1, 1))
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Chmod(path+suffix, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	s, err := Open(t.Context(), Config{Path: path}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if diff := cmp.Diff(private, modes(t, path)); diff != "" {
		t.Errorf("modes (-want +got):\n%s", diff)
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 3 {
		t.Errorf("%d warnings, want 3:\n%s", n, log.String())
	}
}

func TestPathsAreTakenLiterally(t *testing.T) {
	for _, name := range []string{"a b.db", "a?mode=memory.db", "a#b.db", "100%41.db", "ä€😀.db", ":memory:", "file:x", "a&b=c;d'\".db"} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		s, err := Open(t.Context(), Config{Path: path}, nil)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		write(t, s, records(t, 1, 2))
		r, err := OpenReader(t.Context(), path)
		if err != nil {
			t.Errorf("%q: %v", name, err)
		} else {
			if n := len(documents(t, r, forwarder.Query{})); n != 2 {
				t.Errorf("%q: %d entries, want 2", name, n)
			}
			r.Close()
		}
		if err := s.Close(); err != nil {
			t.Errorf("%q: closing: %v", name, err)
		}
		files, _ := os.ReadDir(dir)
		if len(files) != 1 || files[0].Name() != name {
			t.Errorf("%q: the directory holds %v", name, files)
		}
	}
}

func TestDescribeNamesTheFile(t *testing.T) {
	s := newStore(t)
	want := forwarder.Description{Kind: "sqlite", Location: s.path, Delivery: forwarder.DeliveryOnce}
	if diff := cmp.Diff(want, s.Describe()); diff != "" {
		t.Errorf("description (-want +got):\n%s", diff)
	}
	if !filepath.IsAbs(s.path) {
		t.Errorf("location %q is relative", s.path)
	}
}

// plain makes an SQLite file without this package.
func plain(t *testing.T, path, statements string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statements); err != nil {
		t.Fatal(err)
	}
}

func TestForeignFilesAreRefusedAndLeftAlone(t *testing.T) {
	for name, tc := range map[string]struct {
		make func(t *testing.T, path string)
		want string
	}{
		"newer version": {func(t *testing.T, path string) {
			openStore(t, path).Close()
			plain(t, path, "PRAGMA user_version = 5")
		}, "schema version 5 is newer than this build's 4: use a newer build"},
		"another program's": {func(t *testing.T, path string) {
			plain(t, path, "CREATE TABLE entry (id)")
		}, "the database of another program"},
		"another program's id": {func(t *testing.T, path string) {
			plain(t, path, "PRAGMA application_id = 7; PRAGMA user_version = 1; CREATE TABLE t (x)")
		}, "the database of another program (application id 0x7"},
		"no database": {func(t *testing.T, path string) {
			if err := os.WriteFile(path, bytes.Repeat([]byte("log line\n"), 1000), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "not an SQLite database: name another file"},
		"a directory": {func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit.db")
			tc.make(t, path)
			before, _ := os.ReadFile(path)
			s, err := Open(t.Context(), Config{Path: path}, nil)
			if err == nil {
				s.Close()
			}
			checkRefused(t, err, path, tc.want)
			r, err := OpenReader(t.Context(), path)
			if err == nil {
				r.Close()
			}
			checkRefused(t, err, path, tc.want)
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Error("the file was changed")
			}
		})
	}
}

func checkRefused(t *testing.T, err error, path, want string) {
	t.Helper()
	if err == nil || !strings.HasPrefix(err.Error(), `opening audit store "`+path+`": `) || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one with %q", err, want)
	}
}

func TestEmptyPathsAreRefused(t *testing.T) {
	if _, err := Open(t.Context(), Config{}, nil); err == nil || !strings.Contains(err.Error(), "path is empty") {
		t.Errorf("Open: %v", err)
	}
	if _, err := OpenReader(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "path is empty") {
		t.Errorf("OpenReader: %v", err)
	}
}

func TestAReaderDoesNotCreateTheFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.db")
	_, err := OpenReader(t.Context(), path)
	checkRefused(t, err, path, "created when the server starts")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Errorf("the directory holds %v", files)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = OpenReader(t.Context(), path)
	checkRefused(t, err, path, "it is empty")
}

func TestAnUnfinishedFileIsFinished(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, path)
	write(t, s, records(t, 1, 2))
	if n := len(documents(t, s, forwarder.Query{})); n != 2 {
		t.Errorf("%d entries, want 2", n)
	}
}

func TestDurabilitySettings(t *testing.T) {
	s := newStore(t)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "fullfsync": "1"} {
		var got string
		if err := s.db.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %q", pragma, got, err, want)
		}
	}
	if _, err := s.Reader.db.Exec("DELETE FROM entry"); err == nil {
		t.Error("a reading connection can write")
	}
}

func TestClosingLeavesOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.db")
	s := openStore(t, path)
	write(t, s, records(t, 1, 100))
	if n := len(documents(t, s, forwarder.Query{})); n != 100 {
		t.Fatalf("%d entries, want 100", n)
	}
	for range 2 { // closing twice is harmless
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
		t.Errorf("the directory holds %v, want audit.db", files)
	}
}
