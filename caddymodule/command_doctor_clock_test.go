package caddymodule

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
)

func TestAClockThatIsBehindWhatWasWrittenIsFound(t *testing.T) {
	p := newPatient(t)
	dir := filepath.Join(p.dir, "audit", "buffer")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	segment := write(t, filepath.Join(dir, "seg-00000000000000000001.db"), "")
	r, err := p.examined()
	r.want(t, "clock", doctor.StateOK, "not behind the file seg-")
	if exitCodeOf(err) != 0 {
		t.Error(err)
	}
	later := time.Now().Add(3 * time.Hour)
	if err := os.Chtimes(segment, later, later); err != nil {
		t.Fatal(err)
	}
	r, err = p.examined()
	r.want(t, "clock", doctor.StateWrong, "behind the file seg-00000000000000000001.db")
	if exitCodeOf(err) != doctorIll {
		t.Error(err)
	}
	now := time.Now()
	d := &examination{newest: []liveEntry{{Entry: &audit.Entry{Timestamp: now.Add(time.Hour).UnixMicro()}}}}
	d.status = &operator.Status{Stores: []operator.StatusStore{{Name: "sqlite", Retention: &forwarder.KeepingStatus{Distrusted: 48 * time.Hour}}}}
	list := checkClock(t.Context(), d)
	if list[0].State != doctor.StateWrong || list[1].State != doctor.StateWarning || !strings.Contains(list[1].Seen, "jumped ahead") {
		t.Errorf("%+v", list)
	}
}
