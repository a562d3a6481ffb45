//go:build !linux

package caddymodule

import (
	"os"
	"time"
)

func namelessFile(dir string) (*os.File, error) { return temporaryFile(dir) }

func syncData(f *os.File) error { return f.Sync() }

func clockSync() (synced bool, within time.Duration, err error) { return false, 0, errNotSaid }

func holderOf(*doctor) (pid int, ok bool) { return 0, false }
