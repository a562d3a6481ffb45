package program

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestAProgramIsBuiltOnceAndOneThatFailedAgain(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	builds, fails := 0, true
	build := func(_ context.Context, dir string) (string, error) {
		builds++
		file := filepath.Join(dir, "made")
		if err := os.WriteFile(file, []byte("program"), 0o700); err != nil {
			return "", err
		}
		if fails {
			return "", errors.New("no network")
		}
		return file, nil
	}
	if _, err := Cached(t.Context(), "example.com/a@v1", build); err == nil {
		t.Fatal("a build that failed was used")
	}
	fails = false
	for range 2 {
		file, err := Cached(t.Context(), "example.com/a@v1", build)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(file); err != nil || string(b) != "program" {
			t.Fatalf("%q %v", b, err)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "building-*")); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
	if _, err := Cached(t.Context(), "example.com/a@v2", build); err != nil {
		t.Fatal(err)
	}
	if builds != 3 {
		t.Errorf("built %d times, want once in vain and once for each version", builds)
	}
}

func TestAPackageWithoutAVersionIsNotBuilt(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	if _, err := Go(t.Context(), "example.com/a/cmd/server"); err == nil {
		t.Fatal("whatever is newest is not always the same")
	}
}

func TestTheNameOfAProgram(t *testing.T) {
	for pkg, want := range map[string]string{
		"example.com/a/cmd/server": "server", "example.com/tool": "tool", "example.com/tool/v2": "tool", "example.com/v8engine": "v8engine",
	} {
		if got := binary(pkg); got != want && got != want+".exe" {
			t.Errorf("%s: %s, want %s", pkg, got, want)
		}
	}
}
