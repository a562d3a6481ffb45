package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	// tidyEvery is how often rotated files are looked at, beside each rotation.
	tidyEvery = time.Hour
	// tidyAgain is the pause after it could not be done.
	tidyAgain = time.Minute
)

// tidying compresses and removes rotated files in the background.
type tidying struct {
	kick   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
}

func (t *tidying) start(s *Store) {
	ctx, cancel := context.WithCancel(context.Background())
	t.kick, t.cancel, t.done = make(chan struct{}, 1), cancel, make(chan struct{})
	go func() {
		defer close(t.done)
		said := ""
		for {
			pause := tidyEvery
			switch err := s.tidy(ctx); {
			case ctx.Err() != nil:
				return
			case err == nil:
				if said != "" {
					s.log.Info("rotated files can be compressed and removed again")
				}
				said = ""
			default:
				pause = tidyAgain
				if text := err.Error(); text != said {
					said = text
					s.log.Warn("rotated files could not all be compressed or removed; they stay as they are, and it is tried again each minute", "error", err)
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-t.kick:
			case <-time.After(pause):
			}
		}
	}()
}

// wake has the rotated files looked at now.
func (t *tidying) wake() {
	select {
	case t.kick <- struct{}{}:
	default: // it is to look already
	}
}

// stop breaks off what is under way. It may be called more than once.
func (t *tidying) stop() {
	t.cancel()
	<-t.done
}

// tidy does what is to be done. One file that cannot be dealt with does not hold up
// the others.
func (s *Store) tidy(ctx context.Context) error {
	all, err := s.names.rotated()
	if err != nil {
		return err
	}
	var errs []error
	for i, r := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch {
		case s.isPast(r, len(all)-i):
			err = s.remove(ctx, r)
		case s.Compress.suffix() != "" && r.plain && i < len(all)-1:
			err = s.pack(ctx, r)
		default:
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w%s", r.name, err, cure(err)))
		}
	}
	return errors.Join(errs...)
}

// isPast says whether a file is to be removed. It is the nth newest.
func (s *Store) isPast(r rotated, nth int) bool {
	return s.Keep > 0 && nth > s.Keep || s.KeepFor > 0 && s.now().Sub(r.stamp) >= s.KeepFor
}

// remove logs which entries a file held and removes it, in this order: a line too
// many is better than one too few.
func (s *Store) remove(ctx context.Context, r rotated) error {
	files := r.files()
	first, last, err := s.span(ctx, files[0])
	if ctx.Err() != nil {
		return err
	}
	attrs := []any{"rotated", r.name, "first", first, "last", last}
	if err != nil {
		attrs = append(attrs, "error", err)
	}
	s.log.Info("removing a rotated file of the audit store, as keep or keep_for says", attrs...)
	for _, name := range files {
		if err := os.Remove(s.names.path(name)); err != nil {
			return err
		}
		s.step("removed")
	}
	return syncDir(s.names.dir)
}
