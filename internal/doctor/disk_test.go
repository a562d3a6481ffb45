package doctor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/internal/machine"
)

func TestADiskThatIsNoGoodForABufferIsFound(t *testing.T) {
	for kind, want := range map[string]State{
		"ext4": StateOK, "xfs": StateOK, "zfs": StateOK, "0x1234": StateOK,
		"nfs": StateWrong, "cifs": StateWrong, "smb2": StateWrong, "ceph": StateWrong, "9p": StateWrong,
		"tmpfs": StateWrong, "overlay": StateWarning, "fuse": StateWarning,
	} {
		if d := kindFinding(kind, "/data"); d.State != want || d.State != StateOK && d.Cure == "" {
			t.Errorf("%s: %+v", kind, d)
		}
	}
	need := diskNeed{maxSize: 8 << 30, minFree: 256 << 20, segment: 64 << 20, used: 1 << 30}
	for name, c := range map[string]struct {
		f            machine.Filesystem
		space, files State
	}{
		"room for all":     {machine.Filesystem{Free: 10 << 30, FreeInodes: 1000}, StateOK, StateOK},
		"what it has left": {machine.Filesystem{Free: 7<<30 + 256<<20, FreeInodes: 192}, StateOK, StateOK},
		"not for all":      {machine.Filesystem{Free: 7 << 30, FreeInodes: 191}, StateWarning, StateWrong},
		"less than min":    {machine.Filesystem{Free: 255 << 20}, StateWrong, StateWrong},
		"none":             {machine.Filesystem{}, StateWrong, StateWrong},
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
		list := slices.Repeat([]time.Duration{usual}, machine.MaxSyncs-1)
		return append(list, worst)
	}
	for name, c := range map[string]struct {
		times []time.Duration
		state State
		has   string
	}{
		"an SSD":              {times(time.Millisecond, 3*time.Millisecond), StateOK, "a changing call waits about 4ms for its record, another one 2ms"},
		"a slow disk":         {times(25*time.Millisecond, 40*time.Millisecond), StateWarning, "about 100ms"},
		"beyond max_wait":     {times(time.Millisecond, 1100*time.Millisecond), StateWrong, "max_wait, 2s"},
		"too fast to be true": {times(5*time.Microsecond, time.Millisecond), StateWarning, "no disk is that fast"},
		"one alone":           {times(0, time.Millisecond)[machine.MaxSyncs-1:], StateOK, "of 1"},
	} {
		if d := syncFinding(c.times, buffer.DefaultMaxWait); d.State != c.state || !strings.Contains(d.Seen, c.has) {
			t.Errorf("%s: %+v", name, d)
		}
	}
	hangs := make(chan struct{})
	defer close(hangs)
	if _, err := InTime(t.Context(), time.Millisecond, func() (int, error) { <-hangs; return 0, nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a disk that hangs: %v", err)
	}
}
