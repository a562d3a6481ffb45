package caddymodule

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSizesComeFromFlagsWithoutAServer(t *testing.T) {
	t.Chdir(t.TempDir()) // where there is no Caddyfile
	out, _, err := runCommand(t, sizeCommand(), "--rate", "10", "--entry-bytes", "1000", "--changing", "50%", "--outage", "1d", "--keep", "forever",
		"--store", "sqlite", "--store", "http", "--max-size", "4GiB", "--free", "100GiB", "--json")
	var r sizeReport
	if err != nil || json.Unmarshal([]byte(out), &r) != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if r.Rate != 10 || r.EntryBytes != 1000 || r.Changing != 0.5 || r.MaxSize != 4<<30 || r.Free != 100<<30 || r.MaxSizeNeeded != 3<<30 || r.From != "the flags" ||
		r.DiskShort != -1 || r.DiskFull == nil || len(r.Sizes.Stores) != 2 || r.Sizes.Stores[1].Measured {
		t.Errorf("%s", out)
	}
	text, _, err := runCommand(t, sizeCommand(), "--rate", "10", "--outage", "1d", "--keep", "400d", "--free", "100GiB", "--store", "sqlite", "--store", "http")
	for _, want := range []string{"864,000 entries", "max_size 3GiB", "in the end", "are sent", "made-up", "it is full in"} {
		if err != nil || !strings.Contains(text, want) {
			t.Errorf("%v: it lacks %q: %s", err, want, text)
		}
	}
}

func TestSizesNeedARateOrAServer(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, _, err := runCommand(t, sizeCommand()); err == nil || !strings.Contains(err.Error(), "give --rate") {
		t.Errorf("%v", err)
	}
	for flag, value := range map[string]string{
		"rate": "-1", "entry-bytes": "much", "changing": "150%", "outage": "long", "keep": "0d", "max-size": "8", "free": "8", "store": "paper", "config": "absent",
	} {
		if out, _, err := runCommand(t, sizeCommand(), "--rate", "1", "--"+flag, value); err == nil {
			t.Errorf("--%s %s is taken: %s", flag, value, out)
		}
	}
}

func TestSizesComeFromTheRunningServersOwnEntries(t *testing.T) {
	r := newRig(t, ok)
	caddyfile := strings.Replace(rigCaddyfile, "store sqlite", "keep {\n\t\t\tdefault 30d\n\t\t}\n\t\tstore sqlite", 1)
	r.load(caddyfile, proxy)
	file := write(t, filepath.Join(r.dir, "Caddyfile"), r.expand(caddyfile, proxy))
	for range 5 {
		r.send("POST", project+"/pause", nil, "")
		r.send("GET", project, nil, "")
	}
	r.drained()
	before := r.status()
	out, _, err := runCommand(t, sizeCommand(), "--config", file, "--rate", "1", "--json")
	var report sizeReport
	if err != nil || json.Unmarshal([]byte(out), &report) != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if report.EntryBytes < 500 || report.EntryBytes > 3000 || report.Changing <= 0 || report.Changing >= 1 || report.MaxSize != 1<<20 ||
		report.KeepDays < 30 || report.KeepDays > 33 || len(report.Sizes.Stores) != 1 || !strings.Contains(report.From, "running server") {
		t.Errorf("%s", out)
	}
	if s := r.status(); s.Calls.Seen != before.Calls.Seen {
		t.Errorf("asking is a call: %+v", s.Calls)
	}
	// The rate counts from the first entry that the store has of the day.
	p := &place{config: file, adapter: "caddyfile"}
	status, err := p.liveStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if first, err := p.firstSince(t.Context(), time.Now().Add(-24*time.Hour), status.Instance); err != nil || first == nil || first.Origin.Sequence != 1 {
		t.Errorf("%+v, %v", first, err)
	}
}
