package caddymodule

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/internal/sizing"
)

// sizeAnswer is what of the command's JSON tests look at.
type sizeAnswer struct {
	sizing.Input
	sizing.Sizes
	From string `json:"from"`
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
	out, _, err := audited(t, "size", "--config", file, "--rate", "1", "--json")
	var report sizeAnswer
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
}
