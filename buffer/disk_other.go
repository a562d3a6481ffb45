//go:build !linux

package buffer

import (
	"errors"
	"os"
)

// space is not known here: MinFree is not looked at.
func space(string) (free, total int64, err error) { return 0, 0, errors.ErrUnsupported }

func readAhead(*os.File) {}

func dropCache(*os.File) {}

func fdatasync(f *os.File) error { return f.Sync() }

// homeOf is not known here: a copy of the directory is not told from the original.
func homeOf(*os.File) string { return "" }

// bootID is not known here: each commit is synced twice, see segment.boot.
func bootID() string { return "" }
