//go:build unix

package main

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// probe measures how long the disk under dir takes to make 4 KiB durable: the
// floor below which no synced record can go, and the reason why figures of
// different days differ.
func probe(dir string, times int, h *histogram) (err error) {
	f, err := os.CreateTemp(dir, "probe-")
	if err != nil {
		return fmt.Errorf("probing the disk: %w", err)
	}
	defer func() {
		_ = f.Close()
		err = errorOr(err, os.Remove(f.Name()))
	}()
	block := make([]byte, 4096)
	for range times {
		if _, err := f.Write(block); err != nil {
			return fmt.Errorf("probing the disk: %w", err)
		}
		start := time.Now()
		if err := datasync(f); err != nil {
			return fmt.Errorf("probing the disk: %w", err)
		}
		h.add(time.Since(start))
	}
	return nil
}

// watch probes the disk ten times a second while something else runs. It tells
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

func errorOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}
