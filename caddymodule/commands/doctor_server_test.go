package commands

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
)

func TestAClockThatIsBehindTheNewestEntryOrHasJumpedIsFound(t *testing.T) {
	now := time.Now()
	d := &examination{newest: []liveEntry{{Entry: &audit.Entry{Timestamp: now.Add(time.Hour).UnixMicro()}}}}
	d.status = &operator.Status{Stores: []operator.StatusStore{{Name: "sqlite", Retention: &forwarder.KeepingStatus{Distrusted: 48 * time.Hour}}}}
	list := checkClock(t.Context(), d)
	if list[0].State != doctor.StateWrong || list[1].State != doctor.StateWarning || !strings.Contains(list[1].Seen, "jumped ahead") {
		t.Errorf("%+v", list)
	}
}

func TestWhoHoldsTheBufferButIsNotAnsweringIsFound(t *testing.T) {
	d := &examination{place: new(place), config: []byte("{}"), silence: errors.New("permission denied")}
	list := checkServer(t.Context(), d)
	if len(list) != 1 || list[0].State != doctor.StateWrong || !strings.Contains(list[0].Seen, "cannot be asked") {
		t.Errorf("%+v", list)
	}
}

func TestFilesThatCredentialsAreReadFromAreFound(t *testing.T) {
	d := &examination{config: []byte(`{"a":[{"tls":{"certificate":"/c.pem","key":"/k.pem"},"b":"Bearer {file./run/token}"}]}`)}
	if got := d.secretFiles(); !slices.Equal(got, []string{"/k.pem", "/run/token"}) {
		t.Errorf("%q", got)
	}
}
