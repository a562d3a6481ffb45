package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

const (
	readyTimeout = 5 * time.Minute
	stopTimeout  = time.Minute
	callTimeout  = time.Minute
)

// bench is a whole run.
type bench struct {
	options
	res         *result
	fill        string // the program
	full, empty *place
}

// place is a site whose store can be kept from taking anything.
type place struct {
	*rig.Site
	files map[string]bool // of the buffer as it was filled
}

func (p *place) buffer() string { return filepath.Join(p.AuditDir(), "buffer") }
func (p *place) store() string  { return filepath.Join(p.AuditDir(), "audit.db") }

// block keeps the store from taking anything: a directory lies in its place.
func (p *place) block() error {
	if err := os.MkdirAll(p.AuditDir(), 0o700); err != nil {
		return err
	}
	return os.MkdirAll(p.store(), 0o700)
}

// segments are the names of the buffer's segments.
func (p *place) segments() ([]string, error) {
	return filepath.Glob(filepath.Join(p.buffer(), "seg-*.db"))
}

// remember notes what the buffer was filled with.
func (p *place) remember() error {
	names, err := p.segments()
	p.files = map[string]bool{}
	for _, name := range names {
		p.files[name] = true
	}
	return err
}

// reset makes the buffer what it was. No segment is written to again once
// there is a newer one, so that it is enough to take the newer ones away.
func (p *place) reset() error {
	names, err := p.segments()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !p.files[name] {
			if err := os.Remove(name); err != nil {
				return err
			}
		}
	}
	return p.block()
}

// api answers everything at once.
type api struct{}

func (api) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"id":"function"}`))
}

// caller is one connection's changing call.
type caller struct {
	conn    *rig.Conn
	request []byte
}

func (p *place) caller(n int) (*caller, error) {
	conn, err := rig.Dial(p.Addr)
	if err != nil {
		return nil, err
	}
	return &caller{conn, rig.Request("PATCH", fmt.Sprintf("/v1/projects/abcdefghijklmnopqrst/functions/function-%d", n), p.Addr, `{"name":"x"}`,
		"Authorization: Bearer sbp_0123456789abcdef0123456789abcdef01234567")}, nil
}

func (c *caller) call() error {
	a, err := c.conn.Do(c.request, callTimeout)
	if err != nil {
		return err
	}
	if a.Status != http.StatusOK {
		return fmt.Errorf("calling: the answer is %d: %.200q", a.Status, a.Body)
	}
	return nil
}

// turn gives a place one life, from a cold start on, in which nothing is
// delivered.
func (b *bench) turn(ctx context.Context, p *place, to *turns) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("measuring the %s buffer: %w", filepath.Base(p.Dir), err)
		}
	}()
	if p == b.empty {
		if err := os.RemoveAll(p.AuditDir()); err != nil {
			return err
		}
	}
	if err := p.reset(); err != nil {
		return err
	}
	if err := b.cold(); err != nil {
		return err
	}
	start := time.Now()
	proc, err := p.Start(ctx)
	if err != nil {
		return err
	}
	defer proc.Kill()
	if err := proc.Ready(ctx, readyTimeout); err != nil {
		return err
	}
	ready := time.Since(start)
	c, err := p.caller(0)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	if err := c.call(); err != nil {
		return err
	}
	first := time.Since(start)
	m, err := memoryOf(proc.PID)
	if err != nil {
		return err
	}
	to.readies, to.firsts = append(to.readies, ms(ready)), append(to.firsts, ms(first))
	to.PeakAtStart, to.OwnAtStart = max(to.PeakAtStart, m.Peak>>20), max(to.OwnAtStart, m.Own>>20)
	before, err := p.Status(ctx)
	if err != nil {
		return err
	}
	n, took, err := b.load(p)
	if err != nil {
		return errors.Join(err, proc.Crashed())
	}
	if m, err = memoryOf(proc.PID); err != nil {
		return err
	}
	to.PeakUnderLoad, to.OwnUnderLoad = max(to.PeakUnderLoad, m.Peak>>20), max(to.OwnUnderLoad, m.Own>>20)
	after, err := p.Status(ctx)
	if err != nil {
		return err
	}
	if got := after.Calls.Recorded - before.Calls.Recorded; got != n {
		return fmt.Errorf("%d calls were answered and %d recorded, so that the figures would mean nothing", n, got)
	}
	if len(after.Stores) != 1 || after.Stores[0].Delivered != 0 {
		return fmt.Errorf("the store was to take nothing: %s", after.Raw)
	}
	to.rates = append(to.rates, rate(int(n), took.Seconds()))
	return proc.Stop(stopTimeout)
}

// load calls from all connections for a while, each as soon as it has its
// answer.
func (b *bench) load(p *place) (n uint64, took time.Duration, err error) {
	var (
		wg     sync.WaitGroup
		count  atomic.Uint64
		failed atomic.Pointer[error]
		end    atomic.Bool
	)
	start := time.Now()
	for i := range b.Conns {
		wg.Go(func() {
			c, err := p.caller(i)
			if err == nil {
				defer c.conn.Close()
			}
			for err == nil && !end.Load() {
				if err = c.call(); err == nil {
					count.Add(1)
				}
			}
			if err != nil {
				failed.CompareAndSwap(nil, &err)
				end.Store(true)
			}
		})
	}
	for !end.Load() && time.Since(start) < b.Duration {
		time.Sleep(10 * time.Millisecond)
	}
	end.Store(true)
	wg.Wait()
	if e := failed.Load(); e != nil {
		return 0, 0, *e
	}
	return count.Load(), time.Since(start), nil
}

// drain delivers the backlog from a cold start on, for a while.
func (b *bench) drain(ctx context.Context) error {
	if err := b.full.reset(); err != nil {
		return err
	}
	if err := os.Remove(b.full.store()); err != nil {
		return err
	}
	if err := b.cold(); err != nil {
		return err
	}
	proc, err := b.full.Start(ctx)
	if err != nil {
		return err
	}
	defer proc.Kill()
	if err := proc.Ready(ctx, readyTimeout); err != nil {
		return err
	}
	start := time.Now()
	var st rig.Status
	var took time.Duration
	for left := true; left; {
		select {
		case <-time.After(min(time.Second, max(0, b.Drain-time.Since(start)))):
		case <-ctx.Done():
			return ctx.Err()
		}
		if st, err = b.full.Status(ctx); err != nil {
			return errors.Join(err, proc.Crashed())
		}
		took = time.Since(start)
		left = took < b.Drain && !st.Drained()
		m, err := memoryOf(proc.PID)
		if err != nil {
			return errors.Join(err, proc.Crashed())
		}
		b.res.DrainPeak, b.res.DrainOwn = m.Peak>>20, max(b.res.DrainOwn, m.Own>>20)
	}
	if broken := st.Broken(); len(broken) > 0 {
		return fmt.Errorf("not conserved: %v: %s", broken, st.Raw)
	}
	b.res.Delivered = int(st.Stores[0].Delivered)
	b.res.DrainRate = rate(b.res.Delivered, took.Seconds())
	return proc.Stop(stopTimeout)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
