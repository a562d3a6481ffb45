package file

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/storetest"
)

func TestTheStoreKeepsItsContract(t *testing.T) {
	const (
		accepts = "a file takes any bytes: it refuses nothing for what is in it"
		slow    = "a system call on a file cannot be broken off, and a local disk cannot be slowed down from outside; TestAnEndedContextWritesNothing ends the context"
		final   = "nothing changes what was written to a file; whole files are removed, which brings nothing back"
		blind   = "it is written for shippers and not read back"
	)
	storetest.Run(t, contractTarget, storetest.Options{NotApplicable: map[string]string{
		"a connection that is reset in the middle of a batch costs nothing": "a file has no connection; TestAKilledWriterLosesNothingAcknowledged kills the process in the middle of a batch",
		"a slow destination is waited for":                                  slow,
		"a context that ends lets Write return":                             slow,
		"a refused entry is told from its neighbours":                       accepts,
		"a destination that refuses everything says so of each entry":       accepts,
		"a pruned entry does not come back":                                 final,
		"a redacted text does not come back":                                final,
		"Read yields each entry once, in its highest revision and in order": blind,
		"each field of a query narrows":                                     blind,
		"a reader that stops halfway delays no write":                       blind,
		"Received and Missing are what arrived":                             blind,
		"Highest is the highest sequence that was taken":                    blind,
		"no error and no line of the log holds a credential":                "a file needs no credential",
	}})
}

// contractTarget is a new file.
func contractTarget(t testing.TB) *storetest.Target {
	path := filepath.Join(t.TempDir(), "audit.ndjson")
	return &storetest.Target{
		Opener: &Module{Path: path},
		Documents: func() ([][]byte, error) {
			b, err := content(path)
			if err != nil || len(b) == 0 {
				return nil, err
			}
			return bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n")), nil
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
	}
}
