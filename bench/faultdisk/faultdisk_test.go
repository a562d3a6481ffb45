//go:build linux

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/faultfs"
)

// brief is a run of a few seconds.
func brief(only string) options {
	return options{
		OnFault: "reject", Only: only, Clients: 16, Reads: 0.3, Pause: 2 * time.Millisecond,
		Ill: time.Second, Well: 300 * time.Millisecond, Heal: 20 * time.Second, MaxWait: 500 * time.Millisecond,
		Segment: "1MiB", Drain: time.Minute,
	}
}

func TestEveryOperationHasItsFaults(t *testing.T) {
	has := map[string]bool{}
	for _, f := range table() {
		if has[f.String()] {
			t.Errorf("%s is there twice", f)
		}
		has[f.String()] = true
		if f.Kind == faultfs.Slow && f.Delay == 0 {
			t.Errorf("%s takes no longer", f)
		}
	}
	for _, op := range []faultfs.Op{faultfs.Write, faultfs.Fsync, faultfs.SyncDir, faultfs.Rename, faultfs.Create, faultfs.Unlink, faultfs.Truncate} {
		for _, k := range []faultfs.Kind{faultfs.Error, faultfs.Slow, faultfs.Hang, faultfs.Doubt} {
			if f := (faultfs.Fault{Op: op, Kind: k}); !has[f.String()] {
				t.Errorf("%s is missing", f)
			}
		}
	}
}

func TestFaultsAreChosenByName(t *testing.T) {
	for only, want := range map[string]int{"": len(table()), "rename hang": 1, "rename hang, fsync slow": 2, "fallocate": 3, "nothing": 0, ",": 0} {
		if got := chosen(only); len(got) != want {
			t.Errorf("%q: got %d: %v", only, len(got), got)
		}
	}
	for _, f := range chosen("all") {
		if f.Op != faultfs.All {
			t.Errorf("\"all\" chose %s", f)
		}
	}
}

func TestWrongOptionsAreRefused(t *testing.T) {
	for _, change := range []func(*options){
		func(o *options) { o.OnFault = "shrug" },
		func(o *options) { o.Only = "nothing" },
		func(o *options) { o.Clients = 0 },
		func(o *options) { o.Reads = 2 },
	} {
		o := brief("")
		change(&o)
		if _, err := faultdisk(t.Context(), o, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "-") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestAnUnhealedOrHollowRunDoesNotHold(t *testing.T) {
	held := func() *verdict {
		v := &verdict{Faults: []illness{{Fault: "fsync error", Hits: 1}}}
		v.Acked = 1
		return v
	}
	if !held().held() {
		t.Error("a good run does not hold")
	}
	for name, spoil := range map[string]func(*verdict){
		"calls were not recorded again": func(v *verdict) { v.Unhealed = 1 },
		"a fault met nothing":           func(v *verdict) { v.Unhit = 1 },
		"no fault":                      func(v *verdict) { v.Faults = nil },
		"an answer is missing":          func(v *verdict) { v.Missing = 1 },
	} {
		v := held()
		if spoil(v); v.held() {
			t.Errorf("%s: was not noticed", name)
		}
	}
}
