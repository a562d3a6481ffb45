package commands_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/internal/sizing"
)

func TestSizesComeFromFlagsWithoutAServer(t *testing.T) {
	t.Chdir(t.TempDir()) // where there is no Caddyfile
	out, _, err := run(t, "size", "--rate", "10", "--entry-bytes", "1000", "--changing", "50%", "--outage", "1d", "--keep", "forever",
		"--store", "sqlite", "--store", "http", "--max-size", "4GiB", "--free", "100GiB", "--json")
	var r sizeAnswer
	if err != nil || json.Unmarshal([]byte(out), &r) != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if r.Rate != 10 || r.EntryBytes != 1000 || r.Changing != 0.5 || r.MaxSize != 4<<30 || r.Free != 100<<30 || r.MaxSizeNeeded != 3<<30 || r.From != "the flags" ||
		r.DiskShort != -1 || r.DiskFull == nil || len(r.Sizes.Stores) != 2 || r.Sizes.Stores[1].Measured {
		t.Errorf("%s", out)
	}
	text, _, err := run(t, "size", "--rate", "10", "--outage", "1d", "--keep", "400d", "--free", "100GiB", "--store", "sqlite", "--store", "http")
	for _, want := range []string{"864,000 entries", "max_size 3GiB", "in the end", "are sent", "made-up", "it is full in"} {
		if err != nil || !strings.Contains(text, want) {
			t.Errorf("%v: it lacks %q: %s", err, want, text)
		}
	}
}

func TestSizesNeedARateOrAServer(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, _, err := run(t, "size"); err == nil || !strings.Contains(err.Error(), "give --rate") {
		t.Errorf("%v", err)
	}
	for flag, value := range map[string]string{
		"rate": "-1", "entry-bytes": "much", "changing": "150%", "outage": "long", "keep": "0d", "max-size": "8", "free": "8", "store": "paper", "config": "absent",
	} {
		if out, _, err := run(t, "size", "--rate", "1", "--"+flag, value); err == nil {
			t.Errorf("--%s %s is taken: %s", flag, value, out)
		}
	}
}

// sizeAnswer is what of the command's JSON tests look at.
type sizeAnswer struct {
	sizing.Input
	sizing.Sizes
	From string `json:"from"`
}
