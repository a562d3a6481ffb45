package main

import (
	"strings"
	"testing"
)

func TestWhatDoesNotCompileElsewhereIsFound(t *testing.T) {
	n, err := check("darwin", true, "./testdata/broken")
	if err != nil || n != 1 {
		t.Errorf("where it compiles: %d packages, %v", n, err)
	}
	_, err = check("windows", true, "./testdata/broken")
	if err == nil {
		t.Fatal("it was found right")
	}
	for _, want := range []string{"broken_windows.go:5:28", "broken_windows_test.go:5:34", "undefined: missing", "windows"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: does not say %q", err, want)
		}
	}
}

func TestTestsAreLookedAtIfTheyAreWanted(t *testing.T) {
	_, err := check("windows", false, "./testdata/broken")
	if err == nil || !strings.Contains(err.Error(), "broken_windows.go") || strings.Contains(err.Error(), "_test.go") {
		t.Error(err)
	}
}

func TestNamesOfNoPackageAreAnError(t *testing.T) {
	for _, pattern := range []string{"./nowhere", "./testdata/nowhere/..."} {
		if n, err := check("windows", true, pattern); err == nil {
			t.Errorf("%s: %d packages are right", pattern, n)
		}
	}
}
