package machine

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMeasuringADiskLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	list, err := SyncTimes(dir)
	if err != nil || len(list) == 0 || len(list) > MaxSyncs {
		t.Errorf("%d times, %v", len(list), err)
	}
	if f, err := temporaryFile(dir); err != nil || f.Close() != nil {
		t.Errorf("where there are no files without a name: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	if _, err := SyncTimes(filepath.Join(dir, "absent")); err == nil {
		t.Error("there is no such directory")
	}
}
