package caddymodule

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
)

// value is that of the series with these labels, and whether there is one.
func value(t *testing.T, name string, labels map[string]string) (float64, bool) {
	t.Helper()
	for _, m := range gather(t)[name].GetMetric() {
		same := len(m.GetLabel()) == len(labels)
		for _, l := range m.GetLabel() {
			same = same && labels[l.GetName()] == l.GetValue()
		}
		if same {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue(), true // it is one of them
		}
	}
	return 0, false
}

func TestARefusalIsCountedByItsCause(t *testing.T) {
	for cause, err := range map[string]error{
		"full": buffer.ErrFull, "failing": buffer.ErrFailing, "slow": fmt.Errorf("recording: %w", buffer.ErrSlow), "strangers": buffer.ErrShare,
		"closed": buffer.ErrClosed, "other": errors.New("it is too large"),
	} {
		labels := map[string]string{"cause": cause}
		before, there := value(t, "caddy_audit_refusals_total", labels)
		if !there {
			t.Errorf("%s: there is no series before its first event, so that none shows", cause)
		}
		observeRefusal(err)
		if after, _ := value(t, "caddy_audit_refusals_total", labels); after != before+1 {
			t.Errorf("%s: %g, want %g", cause, after, before+1)
		}
	}
}

// A start finds gaps before anybody has asked for metrics.
func TestAGapShowsHoweverEarlyItIsTold(t *testing.T) {
	began := float64(time.Now().Unix())
	gapEntry(buffer.Gap{Reason: buffer.GapDetached, Store: "siem", Count: 3})
	if at, _ := value(t, "caddy_audit_gap_timestamp_seconds", map[string]string{"reason": "detached", "store": "siem"}); at < began {
		t.Errorf("a gap was told at %g, want after %g", at, began)
	}
	if n, _ := value(t, "caddy_audit_gaps_total", map[string]string{"reason": "detached"}); n == 0 {
		t.Error("the gap is not counted")
	}
}

func TestTheLastHeartbeatThatBecameDurableShows(t *testing.T) {
	began := float64(time.Now().Unix())
	r := start(t, proxy, ok)
	if at, _ := value(t, "caddy_audit_heartbeat_timestamp_seconds", nil); at < began {
		t.Errorf("at the start it is %g, want after %g", at, began)
	}
	s := running.current().shared.Load()
	s.beaten.Store(0)
	s.heartbeat()
	if at, _ := value(t, "caddy_audit_heartbeat_timestamp_seconds", nil); at < began {
		t.Errorf("after a heartbeat it is %g, want after %g", at, began)
	}
	r.stop()
	s.beaten.Store(0)
	s.heartbeat() // nothing takes it any more
	if at := s.beaten.Load(); at != 0 {
		t.Errorf("a heartbeat that was not recorded counts, at %d", at)
	}
}

func TestAReloadThatChangesThePolicyShows(t *testing.T) {
	began := float64(time.Now().UnixNano()) / 1e9
	r := start(t, proxy, ok)
	r.load(rigCaddyfile, proxy+"\n\tencode gzip") // what is recorded is the same
	if at, _ := value(t, "caddy_audit_config_changed_timestamp_seconds", nil); at >= began {
		t.Errorf("a reload that changes nothing shows, at %g", at)
	}
	r.load(strings.Replace(rigCaddyfile, "platform supabase", "platform supabase\n\t\trule / none", 1), proxy)
	if at, _ := value(t, "caddy_audit_config_changed_timestamp_seconds", nil); at < began {
		t.Errorf("a reload that adds a rule does not show: %g, want after %g", at, began)
	}
}

func TestWhatTheSystemDoesNotSayOfADiskIsNotAFullOne(t *testing.T) {
	for free, want := range map[int64]bool{-1: false, 0: true, 5: true} {
		if s := operator.StatusOf("", buffer.Stats{FreeBytes: free}, nil); s.KnowsFree != want {
			t.Errorf("of %d bytes: known %t, want %t", free, s.KnowsFree, want)
		}
	}
}
