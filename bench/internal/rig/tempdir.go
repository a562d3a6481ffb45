package rig

import "os"

// InTempDir runs a program's tests where the evidence of runs that have to fail does
// not stay behind. Its path is short, since it holds sockets, and open to the user as
// whom a database server runs. For TestMain: run is m.Run.
func InTempDir(name string, run func() int) int {
	dir, err := os.MkdirTemp("", name+"-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		panic(err)
	}
	if err := os.Setenv("TMPDIR", dir); err != nil {
		panic(err)
	}
	return run()
}
