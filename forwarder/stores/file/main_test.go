package file

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain plays another process when a test started it as one.
func TestMain(m *testing.M) {
	path := os.Getenv("FILE_TEST_PATH")
	if path == "" {
		goleak.VerifyTestMain(m)
		return
	}
	if err := writeForEver(path, os.Getenv("FILE_TEST_KILL_AT")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
