//go:build unix

package main

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// watch measures how long the disk takes to make 4 KiB durable, ten times a second, while something
// else runs: the floor below which no synced record can go, and the reason why figures of different
// days differ. It tells
// a disk that stalled from a product that did.
type watch struct {
	mu      sync.Mutex
	syncs   histogram
	longest time.Duration
	err     error
}

// watchDisk watches until stop is called.
func watchDisk(dir string) (w *watch, stop func(), err error) {
	f, err := os.CreateTemp(dir, "watch-")
	if err != nil {
		return nil, nil, fmt.Errorf("watching the disk: %w", err)
	}
	w = new(watch)
	quit := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		block := make([]byte, 4096)
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			_, err := f.WriteAt(block, 0)
			start := time.Now()
			if err == nil {
				err = datasync(f)
			}
			w.saw(time.Since(start), err)
		}
	})
	return w, func() {
		close(quit)
		done.Wait()
		_ = f.Close()
		_ = os.Remove(f.Name())
	}, nil
}

func (w *watch) saw(d time.Duration, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.err = fmt.Errorf("watching the disk: %w", err)
		return
	}
	w.syncs.add(d)
	w.longest = max(w.longest, d)
}

// worst is the longest sync so far, and what went wrong with the watch itself.
func (w *watch) worst() (time.Duration, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.longest, w.err
}
