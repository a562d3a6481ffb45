//go:build !linux

package machine

import (
	"os"
	"time"
)

func namelessFile(dir string) (*os.File, error) { return temporaryFile(dir) }

func syncData(f *os.File) error { return f.Sync() }

func ClockSync() (synced bool, within time.Duration, err error) { return false, 0, ErrNotSaid }

func LockHolder(string) (pid int, ok bool) { return 0, false }
