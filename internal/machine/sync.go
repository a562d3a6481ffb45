package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// A few syncs say how fast a disk is, and half a second of them disturbs nobody.
const (
	MaxSyncs   = 20
	syncWithin = 500 * time.Millisecond
	syncBlock  = 4096
)

// SyncTimes writes and syncs blocks of a file that has no name, or one that is removed at
// once, inside what was set aside for it: as the buffer does.
func SyncTimes(dir string) ([]time.Duration, error) {
	f, err := namelessFile(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, MaxSyncs*syncBlock)); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	block := make([]byte, syncBlock)
	var times []time.Duration
	for began := time.Now(); len(times) < MaxSyncs && time.Since(began) < syncWithin; {
		block[0]++
		start := time.Now()
		if _, err := f.WriteAt(block, int64(len(times)*syncBlock)); err != nil {
			return nil, err
		}
		if err := syncData(f); err != nil {
			return nil, err
		}
		times = append(times, time.Since(start))
	}
	return times, nil
}

// temporaryFile makes a file and takes its name away.
func temporaryFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "doctor-*.tmp")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("removing %q: %w", filepath.Base(f.Name()), err), f.Close())
	}
	return f, nil
}
