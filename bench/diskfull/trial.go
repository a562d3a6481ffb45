package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/oracle"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

const (
	readyTimeout = 30 * time.Second
	stopTimeout  = 30 * time.Second
	// noticeTimeout bounds how long the product may go on without refusing or
	// passing a call, and how long without recording one when there is room
	// again. It is far above both; the figures are in the result.
	noticeTimeout = 2 * time.Minute
	// look is how often the product is asked for its numbers while something
	// is awaited.
	look = 300 * time.Millisecond
	// maxWait is the shipped Caddyfile's.
	maxWait = 2 * time.Second
)

// trial is one build that has no room for a while.
type trial struct {
	options
	mode, cause string
	site        *rig.Site
	o           *oracle.Oracle
	v           *result
}

func (t *trial) run(ctx context.Context, dir string) (err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("making the directory of the run: %w", err)
	}
	var s squeeze
	room := ""
	if t.cause == disk {
		d, err := newDisk(dir, t.Disk)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.close()) }()
		s, room = d, d.dir
	}
	b, err := os.ReadFile(t.Caddyfile)
	if err != nil {
		return fmt.Errorf("reading the Caddyfile: %w", err)
	}
	text, err := caddyfile(string(b), t.mode, t.cause, t.MinFree, room)
	if err != nil {
		return err
	}
	t.Caddyfile = filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(t.Caddyfile, []byte(text), 0o600); err != nil {
		return fmt.Errorf("writing the Caddyfile: %w", err)
	}
	t.o = oracle.New(maxWait)
	api, stopAPI, err := rig.Serve(t.o)
	if err != nil {
		return err
	}
	defer stopAPI()
	if t.site, err = rig.NewSite(t.Setup, filepath.Join(dir, "site"), api); err != nil {
		return err
	}
	if t.cause == size {
		s = &hold{path: filepath.Join(t.site.AuditDir(), "audit.db")}
	}
	p, err := t.site.Start(ctx)
	if err != nil {
		return err
	}
	defer p.Kill()
	if err := p.Ready(ctx, readyTimeout); err != nil {
		return err
	}
	if err := t.load(ctx, p, s); err != nil {
		return err
	}
	return t.reckoning(ctx, p)
}

// introduce lets the API accept the credential that all calls have. Callers of
// whom nothing is known share a part of the buffer and are refused beyond it,
// whatever on_fault says; that is not what is examined here.
func (t *trial) introduce() error {
	conn, err := rig.Dial(t.site.Addr)
	if err != nil {
		return fmt.Errorf("connecting to the build: %w", err)
	}
	defer conn.Close()
	for range 3 {
		if _, keep := t.o.Send(conn, t.site.Addr, &oracle.ReadKind, 0); !keep {
			return errors.New("sending the first calls: one got no answer")
		}
	}
	return nil
}

// load calls before, while and after there is no room.
func (t *trial) load(ctx context.Context, p *rig.Process, s squeeze) (err error) {
	if err := t.introduce(); err != nil {
		return err
	}
	defer t.o.Start(ctx, t.site.Addr, oracle.Load{Clients: t.Clients, Reads: t.Reads, Seed: rand.Uint64()})()
	if err := t.wait(ctx, p, "before", t.Warm, nil); err != nil {
		return err
	}
	if err := s.press(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.release()) }()
	t.v.pressed = time.Now()
	turnedAway := uint64(0)
	if err := t.wait(ctx, p, "until it is noticed", noticeTimeout, func(st rig.Status) bool {
		turnedAway = st.Calls.Refused + st.Calls.Passed
		return turnedAway > 0
	}); err != nil {
		return err
	}
	if turnedAway == 0 {
		return fmt.Errorf("taking the room away: after %s no call was refused or passed", noticeTimeout)
	}
	t.v.NoticedMS = time.Since(t.v.pressed).Milliseconds()
	if err := t.wait(ctx, p, "no room", t.For, func(rig.Status) bool { return false }); err != nil {
		return err
	}
	if err := s.release(); err != nil {
		return err
	}
	t.v.freed = time.Now()
	t.v.NoRoomSeconds = t.v.freed.Sub(t.v.pressed).Round(time.Second).Seconds()
	var last rig.Calls
	if err := t.wait(ctx, p, "room again", noticeTimeout, func(st rig.Status) bool {
		// Calls from before that are only recorded now are not what is meant.
		again := last.Seen > 0 && st.Calls.Recorded > last.Recorded &&
			st.Calls.Refused == last.Refused && st.Calls.Passed == last.Passed
		last = st.Calls
		return again
	}); err != nil {
		return err
	}
	return t.wait(ctx, p, "after", t.After, nil)
}

// wait lasts for some time, or until done. With done it also asks for the
// numbers again and again, which must hold at every moment.
func (t *trial) wait(ctx context.Context, p *rig.Process, what string, long time.Duration, done func(rig.Status) bool) error {
	bar := rig.NewProgress(fmt.Sprintf("%s, on_fault %s, %s", t.cause, t.mode, what))
	began := time.Now()
	for {
		past := min(time.Since(began), long)
		bar.Step(int(past.Milliseconds()), int(long.Milliseconds()), fmt.Sprintf("ms, %d calls sent", t.o.Sent()))
		if past == long {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.Done():
			return p.Crashed()
		case <-time.After(min(look, long-past)):
		}
		if done == nil {
			continue
		}
		st, err := t.conserved(ctx, what)
		if err != nil {
			return err
		}
		if done(st) {
			return nil
		}
	}
}

// conserved asks for the conservation numbers and does the sums.
func (t *trial) conserved(ctx context.Context, when string) (rig.Status, error) {
	st, err := t.site.Status(ctx)
	if err != nil {
		return st, fmt.Errorf("asking for the status (%s): %w", when, err)
	}
	if broken := st.Broken(); len(broken) > 0 {
		t.v.Note(&t.v.NotConserved, "not conserved (%s): %s: %s", when, strings.Join(broken, "; "), st.Raw)
	}
	return st, nil
}

// reckoning delivers everything, stops the build and compares.
func (t *trial) reckoning(ctx context.Context, p *rig.Process) error {
	if _, err := t.site.Drain(ctx, t.Drain); err != nil {
		return err
	}
	if _, err := t.conserved(ctx, "delivered"); err != nil {
		return err
	}
	live, err := t.site.Export(ctx, "export-live")
	if err != nil {
		return err
	}
	if err := p.Stop(stopTimeout); err != nil {
		return err
	}
	if t.mode == pass {
		if err := t.site.Again(ctx, readyTimeout, t.Drain, stopTimeout); err != nil {
			return err
		}
	}
	entries, err := t.site.Export(ctx, "export-offline")
	if err != nil {
		return err
	}
	st, err := t.conserved(ctx, "stopped")
	if err != nil {
		return err
	}
	if diff := oracle.Unequal(live, entries); diff != "" {
		t.v.Note(&t.v.ExportsDiffer, "the live export and the one of the files differ: %s", diff)
	}
	t.v.Hangs, t.v.Strangers = t.o.Timeouts(), t.o.Unasked()
	t.v.compare(t.o.Snapshot(), entries, st)
	return nil
}
