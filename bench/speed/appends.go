//go:build unix

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
)

// payloadSize is that of the entries that are appended, in bytes.
const payloadSize = 600

// The ways to make an entry durable. The files are the limit of what a disk can do for
// whoever waits for one sync: the growing one has to have its length synced too.
const (
	viaBuffer       = "buffer"
	viaGrowing      = "growing file"
	viaPreallocated = "preallocated file"
)

var ways = []string{viaBuffer, viaGrowing, viaPreallocated}

// appender takes an entry, and returns when it is durable.
type appender interface {
	append(payload []byte) error
	close() error
}

// appended is what one way managed in one round.
type appended struct {
	Way     string  `json:"way"`
	Callers int     `json:"appenders"`
	Round   int     `json:"round"`
	Rate    float64 `json:"appends_per_second"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
}

// appends is the part that measures the buffer without a server.
type appends struct {
	options
	dir     string
	figures []appended
}

func (a *appends) callers() []int {
	if a.Quick {
		return []int{64, 1024}
	}
	return []int{1, 16, 64, 256, 1024}
}

func (a *appends) run(ctx context.Context) error {
	bar := rig.NewProgress("appends")
	done, of := 0, a.Rounds*len(a.callers())*len(ways)
	for round := 1; round <= a.Rounds; round++ {
		for _, callers := range a.callers() {
			for _, way := range ways {
				if err := ctx.Err(); err != nil {
					return err
				}
				dir := filepath.Join(a.dir, "appends")
				to, err := open(way, dir)
				if err != nil {
					return err
				}
				f, err := pour(to, callers, a.Warmup/2, a.Duration)
				if err := errors.Join(err, to.close(), os.RemoveAll(dir)); err != nil {
					return fmt.Errorf("appending to the %s with %d callers: %w", way, callers, err)
				}
				f.Way, f.Round = way, round
				a.figures = append(a.figures, f)
				done++
				bar.Step(done, of, fmt.Sprintf("%s, %d callers: %.0f/s", way, callers, f.Rate))
			}
		}
	}
	if a.Profiles == "" {
		return nil
	}
	return a.profile()
}

// profile keeps what the buffer does, once more.
func (a *appends) profile() error {
	runtime.SetBlockProfileRate(10_000)
	runtime.SetMutexProfileFraction(10)
	defer runtime.SetBlockProfileRate(0)
	defer runtime.SetMutexProfileFraction(0)
	for _, callers := range []int{64, 1024} {
		dir := filepath.Join(a.dir, "appends")
		to, err := open(viaBuffer, dir)
		if err != nil {
			return err
		}
		name := filepath.Join(a.Profiles, fmt.Sprintf("append %d", callers))
		cpu, err := os.Create(name + ".cpu.pprof")
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(cpu); err != nil {
			return err
		}
		_, err = pour(to, callers, 0, a.Duration)
		pprof.StopCPUProfile()
		err = errors.Join(err, cpu.Close(), to.close(), os.RemoveAll(dir))
		for _, kind := range []string{"block", "mutex", "allocs"} {
			f, createErr := os.Create(name + "." + kind + ".pprof")
			if createErr == nil {
				createErr = errors.Join(pprof.Lookup(kind).WriteTo(f, 0), f.Close())
			}
			err = errors.Join(err, createErr)
		}
		if err != nil {
			return fmt.Errorf("profiling the buffer: %w", err)
		}
	}
	return nil
}

// pour has so many callers append, each as soon as its last entry is durable.
func pour(to appender, callers int, warmup, duration time.Duration) (appended, error) {
	var (
		wg            sync.WaitGroup
		mu            sync.Mutex
		counting, end atomic.Bool
		total         histogram
		failed        error
	)
	for range callers {
		wg.Go(func() {
			h, err := drip(to, &counting, &end)
			mu.Lock()
			defer mu.Unlock()
			total.merge(h)
			failed = errors.Join(failed, err)
		})
	}
	time.Sleep(warmup)
	start := time.Now()
	counting.Store(true)
	time.Sleep(duration)
	took := time.Since(start)
	counting.Store(false)
	end.Store(true)
	wg.Wait()
	return appended{Callers: callers, Rate: rate(total.n, took), P50: ms(total.quantile(0.5)), P99: ms(total.quantile(0.99))}, failed
}

func drip(to appender, counting, end *atomic.Bool) (*histogram, error) {
	h := new(histogram)
	for !end.Load() {
		start := time.Now()
		if err := to.append(make([]byte, payloadSize)); err != nil {
			return h, err
		}
		if counting.Load() {
			h.add(time.Since(start))
		}
	}
	return h, nil
}

func open(way, dir string) (appender, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if way == viaBuffer {
		b, err := buffer.Open(filepath.Join(dir, "buffer"), buffer.Options{MaxSize: 1 << 40, MaxWait: time.Minute})
		return toBuffer{b}, err
	}
	return openFile(filepath.Join(dir, "file"), way == viaPreallocated)
}

// toBuffer appends as a call's outcome does.
type toBuffer struct{ *buffer.Buffer }

func (b toBuffer) append(payload []byte) error {
	c, err := b.Admit(16<<10, buffer.Caller{Known: true})
	if err != nil {
		return err
	}
	defer c.Release()
	return c.Append(payload)
}

func (b toBuffer) close() error { return b.Close(context.Background()) }

// toFile appends to a plain file. Whatever was handed in while it was syncing goes out
// together, with one write and one fdatasync.
type toFile struct {
	f    *os.File
	at   int64
	done chan struct{}

	mu      sync.Mutex
	next    *fileGroup
	wake    chan struct{}
	closing bool
}

type fileGroup struct {
	bytes []byte
	done  chan struct{}
	err   error
}

// preallocated is how much of a file is zeros, and synced, before it is appended to. It
// begins again at its start when it is at its end.
const preallocated = 256 << 20

func openFile(path string, allocate bool) (*toFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if allocate {
		zeros := make([]byte, 1<<20)
		for at := int64(0); err == nil && at < preallocated; at += int64(len(zeros)) {
			_, err = f.WriteAt(zeros, at)
		}
		err = errors.Join(err, f.Sync())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	t := &toFile{f: f, done: make(chan struct{}), next: &fileGroup{done: make(chan struct{})}, wake: make(chan struct{}, 1)}
	go t.write(allocate)
	return t, nil
}

func (t *toFile) append(payload []byte) error {
	t.mu.Lock()
	g := t.next
	g.bytes = binary.BigEndian.AppendUint32(g.bytes, uint32(len(payload)))
	g.bytes = binary.BigEndian.AppendUint32(g.bytes, crc32.ChecksumIEEE(payload))
	g.bytes = append(g.bytes, payload...)
	t.mu.Unlock()
	t.signal()
	<-g.done
	return g.err
}

func (t *toFile) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *toFile) write(wraps bool) {
	defer close(t.done)
	for range t.wake {
		runtime.Gosched() // as the buffer does: those whom the last group woke come back
		t.mu.Lock()
		g, closing := t.next, t.closing
		t.next = &fileGroup{bytes: make([]byte, 0, cap(g.bytes)), done: make(chan struct{})}
		t.mu.Unlock()
		if wraps && t.at+int64(len(g.bytes)) > preallocated {
			t.at = 0
		}
		_, g.err = t.f.WriteAt(g.bytes, t.at)
		t.at += int64(len(g.bytes))
		if g.err == nil {
			g.err = datasync(t.f)
		}
		close(g.done)
		if closing {
			return
		}
	}
}

func (t *toFile) close() error {
	t.mu.Lock()
	t.closing = true
	t.mu.Unlock()
	t.signal()
	<-t.done
	return t.f.Close()
}

// of are the rates of a way with so many callers, by round.
func (a *appends) of(way string, callers int) (rates []float64) {
	for _, f := range a.figures {
		if f.Way == way && f.Callers == callers {
			rates = append(rates, f.Rate)
		}
	}
	return rates
}

// appendLine is one line of the part's table.
type appendLine struct {
	Callers     int    `json:"appenders"`
	Buffer      spread `json:"buffer_per_second"`
	Growing     spread `json:"growing_file_per_second"`
	Allocated   spread `json:"preallocated_file_per_second"`
	P99         spread `json:"buffer_p99_ms"`
	OfGrowing   spread `json:"of_growing_file"`
	OfAllocated spread `json:"of_preallocated_file"`
}

func (a *appends) lines() (lines []appendLine) {
	for _, n := range a.callers() {
		var p99 []float64
		for _, f := range a.figures {
			if f.Way == viaBuffer && f.Callers == n {
				p99 = append(p99, f.P99)
			}
		}
		ours, growing, allocated := a.of(viaBuffer, n), a.of(viaGrowing, n), a.of(viaPreallocated, n)
		lines = append(lines, appendLine{n, spreadOf(ours), spreadOf(growing), spreadOf(allocated), spreadOf(p99), ratios(ours, growing), ratios(ours, allocated)})
	}
	return lines
}

func (a *appends) print(w io.Writer, lines []appendLine) {
	fmt.Fprintf(w, "\nentries of %d bytes made durable a second, each appender waiting for its own\n", payloadSize)
	fmt.Fprintf(w, "%-10s %-28s %-22s %-28s %-28s %-22s %s\n", "APPENDERS", "BUFFER", "P99 MS", "GROWING FILE", "PREALLOCATED FILE", "OF GROWING", "OF PREALLOCATED")
	for _, l := range lines {
		fmt.Fprintf(w, "%-10d %-28s %-22s %-28s %-28s %-22s %s\n", l.Callers, l.Buffer.text("%.0f"), l.P99.text("%.1f"), l.Growing.text("%.0f"), l.Allocated.text("%.0f"), l.OfGrowing.text("%.2f"), l.OfAllocated.text("%.2f"))
	}
}
