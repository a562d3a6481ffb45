package main

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write makes a directory holding the given files and returns its path.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoadNamesWhatIsWrongAndTheCure(t *testing.T) {
	for _, test := range []struct {
		name, file, want string
	}{
		{"unknown key", `{"caddy_version": "v2.11.9", "plugin": []}`, `unknown field "plugin"`},
		{"wrong type", "{\n\t\"caddy_version\": 2\n}", "line 2"},
		{"broken JSON", "{\n\t\"caddy_version\": \"v2.11.9\",\n}", "line 3"},
		{"cut short", `{"caddy_version": "v2.11.9"`, "unexpected EOF"},
		{"a second object", `{"caddy_version": "v2.11.9", "plugins": [{"module_path": "example.com/a"}]} {}`, "something follows"},
		{"no version", `{"plugins": [{"module_path": "example.com/a"}]}`, "caddy_version is empty"},
		{"no plugins", `{"caddy_version": "v2.11.9"}`, "plugins is empty"},
		{"a plugin without a path", `{"caddy_version": "v2.11.9", "plugins": [{"version": "v1.0.0"}]}`, "plugin 1 has no module_path"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := write(t, map[string]string{"xcaddy.json": test.file})
			_, err := load(filepath.Join(dir, "xcaddy.json"))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("load: %v; want an error with %q", err, test.want)
			}
			if !strings.Contains(err.Error(), "xcaddy.json") {
				t.Errorf("load: %v; want the file's name in it", err)
			}
		})
	}
}

func TestLoadSaysHowToFindAMissingFile(t *testing.T) {
	_, err := load(filepath.Join(t.TempDir(), "xcaddy.json"))
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "-config") {
		t.Fatalf("load: %v; want a missing file and -config as the cure", err)
	}
}

func TestRelativeReplacementsCountFromTheBuildFile(t *testing.T) {
	dir := write(t, map[string]string{"xcaddy.json": `{
		"caddy_version": "v2.11.9",
		"plugins": [{"module_path": "example.com/a"}],
		"replacements": [
			{"old": "example.com/a", "new": "./a"},
			{"old": "example.com/b", "new": "../b"},
			{"old": "example.com/c", "new": "example.com/fork@v1.0.0"}
		]
	}`})
	r, err := load(filepath.Join(dir, "xcaddy.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(dir, "a"), filepath.Join(filepath.Dir(dir), "b"), "example.com/fork@v1.0.0"}
	for i, replacement := range r.Replacements {
		if got := replacement.New.String(); got != want[i] {
			t.Errorf("%s is replaced by %s; want %s", replacement.Old, got, want[i])
		}
	}
}

const oneModule = `{"caddy_version": "v2.11.9", "plugins": [{"module_path": "example.com/a/plugin"}]}`

func TestLocalReplacesTheModuleBesideTheBuildFile(t *testing.T) {
	dir := write(t, map[string]string{"xcaddy.json": oneModule, "go.mod": "module example.com/a\n"})
	r, err := load(filepath.Join(dir, "xcaddy.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Replacements) != 0 {
		t.Fatalf("replacements before -local: %v; want none", r.Replacements)
	}
	if err := r.useCheckout(); err != nil {
		t.Fatal(err)
	}
	if len(r.Replacements) != 1 || r.Replacements[0].Old != "example.com/a" || r.Replacements[0].New.String() != dir {
		t.Errorf("replacements: %v; want example.com/a by %s", r.Replacements, dir)
	}
}

func TestLocalRefusesWhatItCannotReplace(t *testing.T) {
	for _, test := range []struct {
		name, mod, want string
	}{
		{"no go.mod", "", "leave it out"},
		{"no module line", "go 1.26.0\n", "names no module"},
		{"another module with the same beginning", "module example.com/a/plug\n", "no plugin"},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := map[string]string{"xcaddy.json": oneModule}
			if test.mod != "" {
				files["go.mod"] = test.mod
			}
			dir := write(t, files)
			r, err := load(filepath.Join(dir, "xcaddy.json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := r.useCheckout(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("useCheckout: %v; want an error with %q", err, test.want)
			}
		})
	}
}

func TestRequireCheckoutTakesItsChecksumsAlong(t *testing.T) {
	checkout := write(t, map[string]string{"xcaddy.json": oneModule, "go.mod": "module example.com/a\n", "go.sum": "sums\n"})
	work := write(t, map[string]string{"go.mod": "module caddy\n\ngo 1.26.0\n"})
	r, err := load(filepath.Join(checkout, "xcaddy.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.useCheckout(); err != nil {
		t.Fatal(err)
	}
	if err := r.requireCheckout(work); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"go.mod": "require example.com/a v0.0.0", "go.sum": "sums"} {
		data, err := os.ReadFile(filepath.Join(work, name))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(data), want) {
			t.Errorf("%s:\n%s\nwant %q in it", name, data, want)
		}
	}
	if err := r.requireCheckout(""); err == nil {
		t.Error("requireCheckout without a directory: no error")
	}
}

func TestRunRefusesBeforeItBuilds(t *testing.T) {
	dir := write(t, map[string]string{"xcaddy.json": oneModule})
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"an argument that is no flag", []string{"caddy"}, "not a flag"},
		{"a directory as output", []string{"-o", dir}, "it is a directory"},
		{"no build file", []string{"-config", filepath.Join(dir, "other.json")}, "-config"},
		{"an unknown flag", []string{"-with", "example.com/a"}, "-with"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var said bytes.Buffer
			if err := run(t.Context(), test.args, &said); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("run %q: %v; want an error with %q", test.args, err, test.want)
			}
		})
	}
}

func TestHelpShowsAnExample(t *testing.T) {
	var said bytes.Buffer
	if err := run(t.Context(), []string{"-h"}, &said); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("run -h: %v; want flag.ErrHelp", err)
	}
	for _, want := range []string{"go run ./cmd/xcaddy-build -local -o ./caddy", "-config", "-local", "-o"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("help:\n%s\nwant %q in it", &said, want)
		}
	}
}
