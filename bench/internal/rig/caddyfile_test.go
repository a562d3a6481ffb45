package rig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAnOptionOfTheBufferIsSet(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "given")
	if err := os.WriteFile(path, []byte("{\n\taudit_log {\n\t\tbuffer /x {\n\t\t\tmax_wait 2s # why\n\t\t}\n\t}\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for option, want := range map[string]string{
		"max_wait":     "buffer /x {\n\t\t\tmax_wait 9\n\t\t}",
		"segment_size": "buffer /x {\n\t\t\tsegment_size 9\n\t\t\tmax_wait 2s # why\n\t\t}",
	} {
		got, err := WithBuffer(path, dir, option, "9")
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(got); err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s: %v\n%s", option, err, b)
		}
	}
	if got, err := WithBuffer(path, dir, "max_wait", ""); err != nil || got != path {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := WithBuffer(os.DevNull, dir, "max_wait", "1"); err == nil {
		t.Error("a file without a buffer block was accepted")
	}
}
