package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/storetest"
)

func TestTheStoreKeepsItsContract(t *testing.T) {
	summarizeByItself(t)
	storetest.Run(t, contractTarget, storetest.Options{NotApplicable: map[string]string{
		"a connection that is reset in the middle of a batch costs nothing": "a file has no connection; TestAKilledWriterLosesNothingAcknowledged kills the process in the middle of a batch",
		"no error and no line of the log holds a credential":                "a file needs no credential",
		"a redacted text does not come back":                                "this version redacts nothing that is stored",
	}})
}

// contractTarget is a new file.
func contractTarget(t testing.TB) *storetest.Target {
	path := filepath.Join(t.TempDir(), "audit.db")
	return &storetest.Target{
		Opener: &Module{Path: path},
		Documents: func() ([][]byte, error) {
			r, err := OpenReader(context.Background(), path)
			if err != nil {
				return nil, err
			}
			var docs [][]byte
			for doc, err := range r.Read(context.Background(), forwarder.Query{}) {
				if err != nil {
					return nil, errors.Join(err, r.Close())
				}
				docs = append(docs, slices.Clone(doc))
			}
			return docs, r.Close()
		},
		// Nothing in the schema refuses what the store itself lets through, so a
		// trigger stands in for an operator's own.
		Refuse: func(text string) func() {
			outside(t, path, `CREATE TRIGGER refuse BEFORE INSERT ON entry WHEN instr(NEW.document, '`+strings.ReplaceAll(text, "'", "''")+`')
				BEGIN SELECT RAISE(ABORT, 'not in my table'); END`)
			return func() { outside(t, path, `DROP TRIGGER refuse`) }
		},
		// A file that was moved away, with something else in its place.
		Break: func() func() {
			aside := path + ".aside"
			if err := errors.Join(os.Rename(path, aside), os.Mkdir(path, 0o700)); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := errors.Join(os.Remove(path), os.Rename(aside, path)); err != nil {
					t.Error(err)
				}
			}
		},
		Prune: func(ids ...string) error { return pruneThese(path, ids) },
		// Another writer that is in no hurry.
		Slow: func(d time.Duration) func() {
			db := openOutside(t, path)
			tx, err := db.Begin() // immediate: it has the lock
			if err != nil {
				t.Fatal(err)
			}
			timer, ended := time.NewTimer(d), make(chan struct{})
			fast := make(chan struct{})
			go func() {
				defer close(ended)
				select {
				case <-timer.C:
				case <-fast:
				}
				if err := errors.Join(tx.Rollback(), db.Close()); err != nil {
					t.Error(err)
				}
			}()
			return func() {
				close(fast)
				<-ended
			}
		},
	}
}

// pruneThese ends the retention of some entries, and prunes until there is no more.
func pruneThese(path string, ids []string) error {
	s, err := Open(context.Background(), Config{Path: path}, nil)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if _, err := s.db.Exec(`UPDATE entry SET keep_until = 1 WHERE id = ?1; INSERT OR IGNORE INTO expiring SELECT 1, key >> 8 FROM entry WHERE id = ?1`, id); err != nil {
			return errors.Join(err, s.Close())
		}
	}
	for more := true; more && err == nil; {
		var p forwarder.Pruned
		p, err = s.Prune(context.Background(), forwarder.Expiry{Now: time.Now()})
		more = p.More
	}
	return errors.Join(err, s.Close())
}

// openOutside opens the file as another program does.
func openOutside(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", writerDSN(path))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// outside does something to the file as another program does.
func outside(t testing.TB, path, query string) {
	t.Helper()
	db := openOutside(t, path)
	_, err := db.Exec(query)
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}
