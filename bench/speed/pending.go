//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
)

// pending is the part that measures whether what waits in the buffer slows what comes.
type pending struct {
	options
	dir  string
	line *pendingLine
}

// pendingLine is what it found.
type pendingLine struct {
	Pending uint64 `json:"pending"`
	Full    spread `json:"appends_per_second_full"`
	Empty   spread `json:"appends_per_second_empty"`
	Ratio   spread `json:"of_empty"`
}

func (p *pending) run(ctx context.Context) (err error) {
	full, err := p.open("full")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, full.close(), os.RemoveAll(p.at(""))) }()
	if err := p.fill(ctx, full); err != nil {
		return fmt.Errorf("filling a buffer: %w", err)
	}
	line := &pendingLine{Pending: full.Stats().Head}
	fulls, empties, err := p.turns(ctx, full)
	if err != nil {
		return err
	}
	line.Full, line.Empty, line.Ratio = spreadOf(fulls), spreadOf(empties), ratios(fulls, empties)
	p.line = line
	return nil
}

func (p *pending) at(name string) string { return filepath.Join(p.dir, "pending", name) }

func (p *pending) open(name string) (toBuffer, error) {
	if err := os.MkdirAll(p.at(""), 0o700); err != nil {
		return toBuffer{}, err
	}
	b, err := buffer.Open(p.at(name), buffer.Options{MaxSize: 1 << 40, MaxWait: time.Minute})
	return toBuffer{b}, err
}

// turns appends to a full buffer and to empty ones, and returns how many a second went into
// either, by round.
func (p *pending) turns(ctx context.Context, full toBuffer) (fulls, empties []float64, err error) {
	bar := rig.NewProgress("appends with much pending")
	for round := 1; round <= p.Rounds; round++ {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		empty, err := p.open("empty")
		if err != nil {
			return nil, nil, err
		}
		turns := []struct {
			to    toBuffer
			rates *[]float64
		}{{full, &fulls}, {empty, &empties}}
		if round%2 == 0 {
			turns[0], turns[1] = turns[1], turns[0]
		}
		for _, t := range turns {
			f, err := pour(t.to, 64, p.Warmup, p.Duration)
			if err != nil {
				return nil, nil, errors.Join(err, empty.close())
			}
			*t.rates = append(*t.rates, f.Rate)
		}
		if err := errors.Join(empty.close(), os.RemoveAll(p.at("empty"))); err != nil {
			return nil, nil, err
		}
		bar.Step(round, p.Rounds, fmt.Sprintf("%.0f/s, and %.0f/s with nothing", fulls[round-1], empties[round-1]))
	}
	return fulls, empties, nil
}

func (p *pending) fill(ctx context.Context, to toBuffer) error {
	var (
		wg     sync.WaitGroup
		next   atomic.Int64
		failed atomic.Pointer[error]
	)
	bar := rig.NewProgress("filling")
	for range filling {
		wg.Go(func() {
			for ctx.Err() == nil && failed.Load() == nil {
				n := next.Add(1)
				if n > int64(p.Pending) {
					return
				}
				if err := to.Append(make([]byte, payloadSize)); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	filled := make(chan struct{})
	go func() { wg.Wait(); close(filled) }()
	for tick := time.NewTicker(time.Second); ; {
		select {
		case <-tick.C:
			bar.Step(int(min(next.Load(), int64(p.Pending))), p.Pending+1, "")
			continue
		case <-filled:
			tick.Stop()
		}
		break
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return ctx.Err()
}

func (p *pending) print(w io.Writer) {
	fmt.Fprintf(w, "\n64 appenders with %d entries pending: %s a second, with none: %s\n", p.line.Pending, p.line.Full.text("%.0f"), p.line.Empty.text("%.0f"))
}
