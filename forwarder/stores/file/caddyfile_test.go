package file

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Each golden file is a store's Caddyfile, a line of dashes, and the JSON or the error
// that it gives.
func TestCaddyfilesAdaptAsTheGoldenFilesSay(t *testing.T) {
	files, err := filepath.Glob("testdata/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d golden files, %v", len(files), err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		input, want, _ := strings.Cut(string(b), "----------\n")
		d := caddyfile.NewTestDispenser(input)
		d.Next()    // store
		d.NextArg() // file
		var m Module
		var got []byte
		if err := m.UnmarshalCaddyfile(d.NewFromNextSegment()); err != nil {
			got = []byte(err.Error())
		} else if got, err = json.MarshalIndent(m, "", "\t"); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)+"\n"); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

func TestPlaceholdersInThePathAreReplaced(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("FILE_TEST_DIR", dir)
	m := Module{Path: "{env.FILE_TEST_DIR}/x/../audit.ndjson", Mode: "0640", MaxAge: caddy.Duration(time.Hour), Keep: 3}
	if err := m.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(dir, "audit.ndjson")
	if got := m.Describe().Location; got != want {
		t.Errorf("location %q, want %q", got, want)
	}
	if diff := cmp.Diff(Config{Path: want, Mode: 0o640, MaxAge: time.Hour, Keep: 3}, m.config(), cmpopts.IgnoreUnexported(Config{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	s, err := m.Open(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := s.Describe().Location; got != want {
		t.Errorf("location %q, want %q", got, want)
	}
}

func TestWhatCannotBeProvisionedSaysWhatToDo(t *testing.T) {
	for _, c := range []struct {
		m    Module
		want string
	}{
		{Module{}, "the path is empty: name a file"},
		{Module{Path: "{env.NOBODY_HAS_SET_THIS}"}, `the path "{env.NOBODY_HAS_SET_THIS}"`},
		{Module{Path: "data/"}, "is a directory: name a file in it"},
		{Module{Path: "audit.ndjson.zst"}, "leave .zst out and use the option compress"},
		{Module{Path: "a", Mode: "0666"}, "lets others at most read"},
		{Module{Path: "a", Compress: "lzma"}, "it is zstd, gzip or none"},
		{Module{Path: "a", MaxSize: 5}, "max_size must be at least 1048576"},
		{Module{Path: "a", Keep: -1}, "keep above zero"},
	} {
		err := c.m.Provision(caddy.Context{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.m, err, c.want)
		}
	}
}
