package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/attribution"
	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
)

// AdoptOptions implements the commands' Sidecar.
func (*App) AdoptOptions() buffer.Options {
	return buffer.Options{
		Adopt: true, Gap: gapEntry,
		Pending: func(intent []byte) []byte { return audit.Pending(intent, time.Now()) },
	}
}

// Deliver implements the commands' Sidecar: it adopts the buffer in dir and runs the
// configuration's stores on it until nothing waits.
func (a *App) Deliver(ctx context.Context, dir string, w io.Writer, progress func(done, all int64)) (err error) {
	if _, err := buffer.Inspect(dir); err != nil {
		return err // one that is not there would be made
	}
	o := a.AdoptOptions()
	o.Logger = a.log
	b, err := buffer.Open(dir, o)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
		defer cancel()
		err = errors.Join(err, b.Close(ctx))
	}()
	of, err := a.attributionOptions()
	if err != nil {
		return err
	}
	of.File = organizationsPath(dir) // whose projects were then
	directory, err := attribution.New(of)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, directory.Close()) }()
	s := &shared{dir: dir, buf: b, directory: directory, leases: map[string]chan struct{}{}, last: a}
	if r := b.Recovered(); r.Unclean {
		s.event(audit.EventUncleanStart, map[string]any{"calls_unknown": r.Unknown, "adopted": true})
	}
	for _, n := range a.stores {
		b.Hold(n.Name)
	}
	before := b.Stats()
	running, cancel := context.WithCancel(ctx)
	var stores []*delivery
	for _, n := range a.stores {
		stores = append(stores, startDelivery(running, s, n, retention{stamper: directory, buf: b}, a.log, nil))
	}
	defer func() {
		cancel()
		for _, d := range stores {
			<-d.done
		}
	}()
	begun := s.pending(a)
	for {
		left := s.pending(a)
		if left == 0 {
			break
		}
		progress(int64(begun-min(left, begun)), int64(begun))
		select {
		case <-ctx.Done():
			return fmt.Errorf("delivering %q: %s entries are left, and stay there: run it again", dir, humanize.Comma(int64(left)))
		case <-time.After(drainPoll):
		}
	}
	after := b.Stats()
	for _, n := range a.stores {
		was, is := before.Stores[n.Name], after.Stores[n.Name]
		fmt.Fprintf(w, "%s: %s delivered", n.Name, humanize.Comma(int64(is.Delivered-was.Delivered)))
		if lost := is.Damaged - was.Damaged; lost > 0 {
			fmt.Fprintf(w, ", %s cannot be read; a gap tells which", humanize.Comma(int64(lost)))
		}
		fmt.Fprintln(w)
	}
	names := slices.DeleteFunc(slices.Collect(maps.Keys(after.Stores)), a.stores.Has)
	slices.Sort(names)
	var owed []string // stores that nobody has taken out of the configuration, as far as the buffer knows
	for _, name := range names {
		p := after.Stores[name]
		n := after.Head - p.Position
		if n == 0 {
			continue
		}
		fmt.Fprintf(w, "%s: %s not delivered: this configuration has no such store\n", display.Printable(name), humanize.Comma(int64(n)))
		if p.Until == 0 {
			owed = append(owed, display.Printable(name))
		}
	}
	if n := asideIn(after); n > 0 {
		return fmt.Errorf("delivering %q: %s entries are in its quarantine and nowhere else, since their stores refuse them: keep the directory, and see caddy audit quarantine list", dir, humanize.Comma(int64(n)))
	}
	if len(owed) > 0 {
		return fmt.Errorf("delivering %q: not all that it holds for %s is delivered: keep the directory, and run it again with a configuration that has the store; if nobody wants it there, the directory can be removed", dir, strings.Join(owed, ", "))
	}
	_, err = fmt.Fprintln(w, "everything is delivered; the directory can be removed")
	return err
}

// asideIn is how many entries are in quarantine, of whatever store.
func asideIn(b buffer.Stats) (n uint64) {
	for _, p := range b.Stores {
		n += p.Quarantined
	}
	return n
}

// Directory implements the commands' Sidecar.
func (a *App) Directory() string { return a.dir }

// BufferOptions implements the commands' Sidecar.
func (a *App) BufferOptions() buffer.Options { return a.options() }
