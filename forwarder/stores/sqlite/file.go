package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	driver "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// prepareFile creates the file and its directory if they do not exist and
// sees to their modes. SQLite gives -wal and -shm the mode of the file, past
// the umask.
//
// A file that exists is never opened here: closing it again would drop the
// locks that another store of this process holds on it, which is how POSIX
// record locks are.
func prepareFile(path string, log *slog.Logger) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("creating its directory: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err == nil {
		// The umask may have taken away too much.
		return errors.Join(f.Chmod(0o600), f.Sync(), f.Close(), syncDir(dir), syncDir(filepath.Dir(dir)))
	}
	if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("creating it: %w", err)
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if name != path && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%q is not a regular file: name another", name)
		}
		if info.Mode().Perm()&0o077 == 0 {
			continue
		}
		if err := os.Chmod(name, 0o600); err != nil {
			return fmt.Errorf("narrowing its mode to 0600: %w", err)
		}
		log.Warn("audit store was open to other users; its mode is now 0600", "file", name, "was", info.Mode().Perm())
	}
	return nil
}

// syncDir makes a new name in the directory durable. One that may be written
// but not listed cannot be synced; SQLite lets that pass too.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// writerDSN opens for writing but never creates: prepareFile did, and a file
// that went away since must not come back with the umask's mode.
//
// WAL with synchronous FULL syncs each commit. busy_timeout is for other
// writers, such as a person at a SQLite prompt; it is short because waiting
// for a lock heeds no context, and the forwarder tries again. The log is moved
// into the file by mover.
func writerDSN(path string) string {
	return dsn(path, url.Values{
		"mode":    {"rw"},
		"_txlock": {"immediate"},
		"_pragma": {
			"busy_timeout(1000)",
			"synchronous(FULL)",
			"fullfsync(1)",
			"cache_size(-16384)",
			"wal_autocheckpoint(0)",
			"journal_size_limit(67108864)",
			"trusted_schema(0)",
		},
	})
}

// readerDSN opens for reading only. SQLite may still create -wal and -shm
// beside the file.
func readerDSN(path string) string {
	return dsn(path, url.Values{
		"mode": {"ro"},
		"_pragma": {
			"busy_timeout(5000)",
			"query_only(1)",
			"cache_size(-2048)",
			"trusted_schema(0)",
		},
	})
}

// dsn is a SQLite URI. Escaping keeps a path with ? # or % in one piece.
func dsn(path string, v url.Values) string {
	if path = filepath.ToSlash(path); !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/…
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: v.Encode()}).String()
}

// opening wraps an error of Open or OpenReader, with the cure where SQLite's
// own text has none.
func opening(path string, err error) error {
	return fmt.Errorf("opening audit store %q: %w%s", path, err, cure(err))
}

// cure is what to do about an error of SQLite, as the end of a message.
func cure(err error) string {
	var e *driver.Error
	if !errors.As(err, &e) {
		return ""
	}
	switch e.Code() & 0xff {
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		return ": another program holds a lock on it: end its transaction"
	case lib.SQLITE_FULL:
		return ": free some space on its disk"
	case lib.SQLITE_CANTOPEN, lib.SQLITE_PERM, lib.SQLITE_READONLY, lib.SQLITE_AUTH:
		return ": check that this user may read and write it and its directory"
	case lib.SQLITE_NOTADB:
		return ": it is not an SQLite database: name another file"
	case lib.SQLITE_CORRUPT:
		return ": it is damaged: move it away with its -wal and -shm, and recover it with sqlite3's .recover"
	}
	return ""
}
