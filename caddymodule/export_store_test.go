package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stores"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/spool"
)

func init() {
	caddy.RegisterModule(new(archiveStore))
}

// archiveStore stands for one that can only be read as it arrived.
type archiveStore struct{ pickyStore }

var archived struct {
	docs    [][]byte
	damaged []string
	fails   error
}

func (*archiveStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "audit_log.stores.archive", New: func() caddy.Module { return new(archiveStore) }}
}

// Scan implements forwarder.ScanOpener.
func (*archiveStore) Scan(_ context.Context, _ forwarder.Query, damaged func(string, error)) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, name := range archived.damaged {
			damaged(name, errors.New("its hash is another"))
		}
		for _, doc := range archived.docs {
			if !yield(doc, nil) {
				return
			}
		}
		if archived.fails != nil {
			yield(nil, archived.fails)
		}
	}
}

func TestExportReadsTheStoreThatIsNamed(t *testing.T) {
	archived.docs, archived.damaged, archived.fails = nil, nil, nil
	var want string
	for _, n := range []int{2, 1} {
		for revision := range 3 {
			e := &audit.Entry{ID: fmt.Sprintf("0198c0de-0000-7000-8000-%012d", n), Revision: revision, Timestamp: int64(n), Outcome: audit.OutcomeSuccess}
			b, err := e.Encode()
			if err != nil {
				t.Fatal(err)
			}
			r, err := forwarder.NewRecord("0198c0de-0000-7000-8000-000000000001", uint64(10*n+revision), b)
			if err != nil {
				t.Fatal(err)
			}
			archived.docs = append(archived.docs, r.JSON, r.JSON) // each twice
			if revision == 2 {
				want = string(r.JSON) + "\n" + want
			}
		}
	}
	dir := t.TempDir()
	t.Setenv("TMPDIR", filepath.Join(dir, "tmp"))
	if err := os.Mkdir(filepath.Join(dir, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, []byte(fmt.Sprintf(`{
	admin unix/%[1]s/admin.sock
	audit_log {
		buffer %[1]s/buffer
		store sqlite %[1]s/audit.db
		store archive
		store archive {
			name events
			format ocsf
		}
		store picky
	}
}
`, dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	read := func(store string) (string, error) {
		out, _, err := audited(t, "export", "--config", config, "--store", store)
		left, globErr := filepath.Glob(filepath.Join(dir, "tmp", "*"))
		if len(left) > 0 || globErr != nil {
			t.Errorf("left behind: %q, %v", left, globErr)
		}
		return out, err
	}
	if got, err := read("archive"); err != nil || got != want {
		t.Errorf("got %q, %v\nwant %q", got, err, want)
	}
	for store, says := range map[string]string{"archived": "it has sqlite, archive, events, picky", "picky": "cannot be read back", "events": "its format is ocsf"} {
		if got, err := read(store); err == nil || !strings.Contains(err.Error(), says) || got != "" {
			t.Errorf("store %s: %q, %v", store, got, err)
		}
	}
	// The rest comes, and then what is missing.
	for n := range 12 {
		archived.damaged = append(archived.damaged, fmt.Sprintf("object %d", n))
	}
	got, err := read("archive")
	var bad *spool.DamagedError
	if got != want || !errors.As(err, &bad) || bad.Count != 12 || !strings.Contains(err.Error(), "object 0: its hash is another") || !strings.Contains(err.Error(), "and 2 more") {
		t.Errorf("got %q, %v", got, err)
	}
	archived.fails = errors.New("the bucket is gone")
	if got, err := read("archive"); got != "" || !errors.Is(err, archived.fails) {
		t.Errorf("a part is taken for the whole: %q, %v", got, err)
	}
	archived.docs, archived.damaged, archived.fails = nil, nil, nil
	if store := (stores.List{{StoreConfig: new(stores.StoreConfig), Opener: new(archiveStore)}}).Readable(); store != nil {
		t.Error("an archive is read without being named")
	}
}
