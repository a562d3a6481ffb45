package commands

import (
	"bytes"
	"encoding/json"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestTheVersionNamesWhatReadsAndWritesFiles(t *testing.T) {
	out, _, err := runAlone(t, versionCommand(), "--json")
	var v programVersion
	if err != nil || json.Unmarshal([]byte(out), &v) != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"buffer", "entry", "sqlite", "postgres"} {
		i := slices.IndexFunc(v.Formats, func(f formatVersion) bool { return f.Name == name })
		if i < 0 || v.Formats[i].Writes < 1 || v.Formats[i].ReadsFrom < 1 || v.Formats[i].ReadsFrom > v.Formats[i].Writes {
			t.Errorf("format %s: %+v", name, v.Formats)
		}
	}
	if v.Go == "" || v.Caddy == "" || !strings.Contains(v.Platform, "/") {
		t.Errorf("%+v", v)
	}
	text, _, err := runAlone(t, versionCommand())
	if err != nil || !strings.Contains(text, "sqlite    writes 4, reads 1 to 4; an earlier one") || !strings.Contains(text, "buffer    writes 2, reads 1 to 2\n") {
		t.Errorf("%v: %s", err, text)
	}
}

func TestTheVersionIsOursWhoeverBuiltTheProgram(t *testing.T) {
	bbolt := &debug.Module{Path: "go.etcd.io/bbolt", Version: "v1.5.0", Replace: &debug.Module{Path: "../bbolt"}}
	vcs := []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.time", Value: "2026-11-29T00:00:00Z"}, {Key: "vcs.modified", Value: "true"}}
	for name, c := range map[string]struct {
		info              *debug.BuildInfo
		version, revision string
	}{
		"our own":     {&debug.BuildInfo{Main: debug.Module{Path: ourModule, Version: "v1.2.3"}, Deps: []*debug.Module{bbolt}, Settings: vcs}, "v1.2.3", "abc"},
		"a tree":      {&debug.BuildInfo{Main: debug.Module{Path: ourModule, Version: "(devel)"}, Settings: vcs}, "devel", "abc"},
		"of xcaddy":   {&debug.BuildInfo{Main: debug.Module{Path: "caddy"}, Deps: []*debug.Module{{Path: ourModule, Version: "v1.2.3"}, bbolt}, Settings: vcs}, "v1.2.3", ""},
		"says little": {nil, "unknown", ""},
	} {
		v := versionOf(c.info)
		if v.Version != c.version || v.Revision != c.revision || v.Modified != (c.revision != "") {
			t.Errorf("%s: %+v", name, v)
		}
		if text := v.text(); c.revision != "" && !strings.Contains(text, "abc 2026-11-29T00:00:00Z, changed since") {
			t.Errorf("%s: %s", name, text)
		}
	}
	if v := versionOf(&debug.BuildInfo{Deps: []*debug.Module{bbolt}}); len(v.Modules) != 1 || !strings.Contains(v.text(), "go.etcd.io/bbolt v1.5.0 => ../bbolt") {
		t.Errorf("what was replaced does not show: %+v", v.Modules)
	}
}

func runAlone(t *testing.T, cmd *cobra.Command, args ...string) (out, messages string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return stdout.String(), stderr.String(), err
}
