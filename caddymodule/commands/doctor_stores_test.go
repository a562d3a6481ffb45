package commands_test

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

func TestStoresThatCannotBeUsedAreFoundAndNotWrittenTo(t *testing.T) {
	var asked atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { asked.Add(1) }))
	defer receiver.Close()
	other := write(t, filepath.Join(t.TempDir(), "other.db"), "this is no database at all, and long enough to have been one of some kind")
	for name, c := range map[string]struct {
		from, to string
		state    doctor.State
		has      string
	}{
		"not made yet":        {"", "", doctor.StateNotKnown, "created when the server starts"},
		"another program's":   {"store sqlite %DIR%/audit/audit.db", "store sqlite " + other, doctor.StateWrong, "not an SQLite database"},
		"a receiver":          {"%GLOBAL%", "store http " + receiver.URL + "/ingest", doctor.StateOK, "nothing was written to it"},
		"nobody there":        {"%GLOBAL%", "store http http://" + ports.ForTest(t) + "/ingest", doctor.StateWrong, "nobody can be reached"},
		"a file":              {"%GLOBAL%", "store file %DIR%/audit/audit.ndjson", doctor.StateNotKnown, "was not tried, since that writes to it"},
		"a database away":     {"%GLOBAL%", "store postgres postgres://audit@127.0.0.1:9/audit?sslmode=disable", doctor.StateWrong, "refused"},
		"none":                {"store sqlite %DIR%/audit/audit.db", "", doctor.StateWarning, "no store is configured"},
		"none to read":        {"store sqlite %DIR%/audit/audit.db", "store file %DIR%/audit/audit.ndjson", doctor.StateWarning, "none of the stores can be read back"},
		"none that is needed": {"store sqlite %DIR%/audit/audit.db", "store sqlite %DIR%/audit/audit.db {\n\t\t\tdetachable 20%\n\t\t}", doctor.StateWarning, "each store is detachable"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatient(t)
			if c.from != "" {
				p = newPatient(t, c.from, strings.ReplaceAll(c.to, "%DIR%", p.dir))
			}
			before := filesIn(t, p.dir)
			r, _ := p.examined()
			r.want(t, "stores", c.state, c.has)
			if after := filesIn(t, p.dir); !slices.Equal(before, after) {
				t.Errorf("it made %v", after)
			}
		})
	}
	if asked.Load() != 0 {
		t.Errorf("the receiver was asked %d times", asked.Load())
	}
	p := newPatient(t, "%GLOBAL%", "store http "+receiver.URL+"/ingest")
	r, err := p.examined("--probe")
	r.want(t, "stores", doctor.StateOK, "store sqlite (sqlite "+filepath.Join(p.dir, "audit", "audit.db")+"): it took the probe")
	if asked.Load() != 1 || exitCodeOf(err) != 0 {
		t.Errorf("%v, and the receiver was asked %d times", err, asked.Load())
	}
	r, _ = newPatient(t, "%GLOBAL%", "store http http://"+ports.ForTest(t)+"/ingest").examined("--probe")
	r.want(t, "stores", doctor.StateWrong, "store http")
}
