package caddymodule

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/buffer"
)

func TestADiskThatIsNoGoodForABufferIsFound(t *testing.T) {
	for kind, want := range map[string]diagnosisState{
		"ext4": diagnosisOK, "xfs": diagnosisOK, "zfs": diagnosisOK, "0x1234": diagnosisOK,
		"nfs": diagnosisWrong, "cifs": diagnosisWrong, "smb2": diagnosisWrong, "ceph": diagnosisWrong, "9p": diagnosisWrong,
		"tmpfs": diagnosisWrong, "overlay": diagnosisWarning, "fuse": diagnosisWarning,
	} {
		if d := kindFinding(kind, "/data"); d.State != want || d.State != diagnosisOK && d.Cure == "" {
			t.Errorf("%s: %+v", kind, d)
		}
	}
	need := diskNeed{maxSize: 8 << 30, minFree: 256 << 20, segment: 64 << 20, used: 1 << 30}
	for name, c := range map[string]struct {
		f            filesystem
		space, files diagnosisState
	}{
		"room for all":     {filesystem{Free: 10 << 30, FreeInodes: 1000}, diagnosisOK, diagnosisOK},
		"what it has left": {filesystem{Free: 7<<30 + 256<<20, FreeInodes: 192}, diagnosisOK, diagnosisOK},
		"not for all":      {filesystem{Free: 7 << 30, FreeInodes: 191}, diagnosisWarning, diagnosisWrong},
		"less than min":    {filesystem{Free: 255 << 20}, diagnosisWrong, diagnosisWrong},
		"none":             {filesystem{}, diagnosisWrong, diagnosisWrong},
	} {
		if d := need.space(c.f); d.State != c.space {
			t.Errorf("%s: %+v", name, d)
		}
		if d := need.inodes(c.f); d.State != c.files {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestWhatASyncTakesIsSaidInTermsOfACall(t *testing.T) {
	times := func(usual, worst time.Duration) []time.Duration {
		list := slices.Repeat([]time.Duration{usual}, maxSyncs-1)
		return append(list, worst)
	}
	for name, c := range map[string]struct {
		times []time.Duration
		state diagnosisState
		has   string
	}{
		"an SSD":              {times(time.Millisecond, 3*time.Millisecond), diagnosisOK, "a changing call waits about 4ms for its record, another one 2ms"},
		"a slow disk":         {times(25*time.Millisecond, 40*time.Millisecond), diagnosisWarning, "about 100ms"},
		"beyond max_wait":     {times(time.Millisecond, 1100*time.Millisecond), diagnosisWrong, "max_wait, 2s"},
		"too fast to be true": {times(5*time.Microsecond, time.Millisecond), diagnosisWarning, "no disk is that fast"},
		"one alone":           {times(0, time.Millisecond)[maxSyncs-1:], diagnosisOK, "of 1"},
	} {
		if d := syncFinding(c.times, buffer.DefaultMaxWait); d.State != c.state || !strings.Contains(d.Seen, c.has) {
			t.Errorf("%s: %+v", name, d)
		}
	}
	hangs := make(chan struct{})
	defer close(hangs)
	if _, err := inTime(t.Context(), time.Millisecond, func() (int, error) { <-hangs; return 0, nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a disk that hangs: %v", err)
	}
}
