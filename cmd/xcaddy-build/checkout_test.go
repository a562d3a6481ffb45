package main

import (
	"encoding/json"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

// These tests hold three files of the checkout against each other: xcaddy.json,
// go.mod and the imports of cmd/caddy. They say the same thing thrice, and
// nothing else would notice when one of them stops.

const (
	root      = "../.."
	caddyPath = "github.com/caddyserver/caddy/v2"
)

// readMod returns the path of the module that a go.mod declares and the
// version of each module that it requires.
func readMod(t *testing.T, path string) (module string, required map[string]string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := modfile.Parse(path, data, nil)
	if err != nil {
		t.Fatal(err)
	}
	required = make(map[string]string)
	for _, r := range file.Require {
		required[r.Mod.Path] = r.Mod.Version
	}
	return file.Module.Mod.Path, required
}

func TestBuildFileNamesTheCaddyOfGoMod(t *testing.T) {
	r, err := load(filepath.Join(root, "xcaddy.json"))
	if err != nil {
		t.Fatal(err)
	}
	_, required := readMod(t, filepath.Join(root, "go.mod"))
	if r.CaddyVersion != required[caddyPath] {
		t.Errorf("xcaddy.json builds Caddy %s, go.mod requires %s; make them equal", r.CaddyVersion, required[caddyPath])
	}
}

func TestBuildFileNamesRealPlugins(t *testing.T) {
	r, err := load(filepath.Join(root, "xcaddy.json"))
	if err != nil {
		t.Fatal(err)
	}
	module, _ := readMod(t, filepath.Join(root, "go.mod"))
	for _, p := range r.Plugins {
		dir, ok := strings.CutPrefix(p.PackagePath, module+"/")
		if !ok {
			// Ours follow the checkout or the newest release; others need a pin to be the same tomorrow.
			if p.Version == "" {
				t.Errorf("plugin %s: not of this module and without a version; name one", p.PackagePath)
			}
			continue
		}
		pkg, err := build.ImportDir(filepath.Join(root, filepath.FromSlash(dir)), 0)
		if err != nil {
			t.Errorf("plugin %s: %v", p.PackagePath, err)
			continue
		}
		if pkg.IsCommand() {
			t.Errorf("plugin %s: it is a command; name the package that registers modules", p.PackagePath)
		}
	}
	for _, replacement := range r.Replacements {
		if replacement.Old.String() == module {
			t.Errorf("xcaddy.json replaces %s, which breaks it outside the checkout; -local does that", module)
		}
	}
}

func TestBuildFileAndCommandLinkTheSamePlugins(t *testing.T) {
	r, err := load(filepath.Join(root, "xcaddy.json"))
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, p := range r.Plugins {
		named = append(named, p.PackagePath)
	}

	files, err := filepath.Glob(filepath.Join(root, "cmd", "caddy", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var linked []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range parsed.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			// A plugin is linked for its effect alone. What has no dot is of
			// the standard library, such as time/tzdata, which xcaddy adds too.
			if spec.Name == nil || spec.Name.Name != "_" || !strings.Contains(path, ".") || strings.HasPrefix(path, caddyPath+"/") {
				continue
			}
			linked = append(linked, path)
		}
	}
	slices.Sort(named)
	slices.Sort(linked)
	if !slices.Equal(named, linked) {
		t.Errorf("xcaddy.json names the plugins %q, cmd/caddy links %q; make them equal", named, linked)
	}
}

// Caddy is tested with the versions in its own go.mod. A dependency of ours
// that lifts one of them would ship a combination that nobody has tested, to
// everyone who builds with this plugin.
func TestGoModLiftsNothingOfCaddys(t *testing.T) {
	module, ours := readMod(t, filepath.Join(root, "go.mod"))
	if ours[caddyPath] == "" {
		t.Fatalf("go.mod of %s does not require %s", module, caddyPath)
	}
	download := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", caddyPath)
	download.Dir = root
	out, err := download.Output()
	if err != nil {
		t.Fatalf("finding Caddy's go.mod: %v\n%s", err, out)
	}
	var caddy struct{ GoMod, Version string }
	if err := json.Unmarshal(out, &caddy); err != nil {
		t.Fatal(err)
	}
	_, theirs := readMod(t, caddy.GoMod)
	if len(theirs) == 0 {
		t.Fatalf("%s requires nothing; this test would see nothing", caddy.GoMod)
	}
	same := 0
	for path, version := range theirs {
		// go.mod lists every module that gives a package to our build or its
		// tests. One that is missing there is not in the build at all.
		switch got, ok := ours[path]; {
		case !ok:
		case got != version:
			t.Errorf("go.mod has %s %s, Caddy %s has %s; run go get %s@%s, and find what asks for more", path, got, caddy.Version, version, path, version)
		default:
			same++
		}
	}
	t.Logf("%d modules at Caddy's version", same)
	if same == 0 {
		t.Error("go.mod shares no module with Caddy's; run go mod tidy")
	}
}
