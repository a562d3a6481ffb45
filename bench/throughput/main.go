// Throughput measures what auditing costs: the same build as a plain proxy,
// with Caddy's own access log, and with audit_log, in turns.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

type options struct {
	rig.Setup
	Rounds   int
	Conns    int
	Warmup   time.Duration
	Duration time.Duration
	Delay    time.Duration
	Syncs    int
	JSON     bool
}

func main() {
	if played, err := helper(os.Args[1:]); played {
		exit(err)
	}
	var o options
	fs := flag.NewFlagSet("throughput", flag.ExitOnError)
	o.Register(fs)
	fs.IntVar(&o.Rounds, "rounds", 5, "how `many` times each variant has its turn")
	fs.IntVar(&o.Conns, "c", 64, "how `many` connections")
	fs.DurationVar(&o.Warmup, "warmup", time.Second, "`time` before each measurement")
	fs.DurationVar(&o.Duration, "duration", 5*time.Second, "`time` of each measurement")
	fs.DurationVar(&o.Delay, "upstream-delay", 0, "`time` that the stub API takes")
	fs.IntVar(&o.Syncs, "syncs", 100, "how `many` times to probe the disk before each round")
	fs.BoolVar(&o.JSON, "json", false, "print only the JSON line, with the figures of each round")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), "Measures plain proxy, access log and audit_log in turns.\n\n"+
			"  go run ./bench/throughput\n  go run ./bench/throughput -rounds 3 -c 8 -upstream-delay 5ms\n\n")
		fs.PrintDefaults()
	}
	_ = fs.Parse(os.Args[1:]) // exits by itself
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(throughput(ctx, o, os.Stdout))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "throughput:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func throughput(ctx context.Context, o options, w io.Writer) (err error) {
	if o.Rounds < 1 || o.Conns < 1 || o.Duration <= 0 || o.Syncs < 1 {
		return fmt.Errorf("reading the options: -rounds, -c, -duration and -syncs must be positive")
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	setup, dir, err := o.Complete(ctx, "throughput")
	if err != nil {
		return err
	}
	defer func() {
		if o.Keep || err != nil {
			fmt.Fprintln(os.Stderr, "throughput: the evidence is in", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	shipped, err := os.ReadFile(setup.Caddyfile)
	if err != nil {
		return fmt.Errorf("reading the Caddyfile: %w", err)
	}
	api, stopAPI, err := startAPI(ctx, self, o.Delay)
	if err != nil {
		return err
	}
	defer stopAPI()
	b := &bench{options: o, setup: setup, self: self, dir: dir, api: api, shipped: string(shipped)}
	res, err := b.run(ctx)
	if err != nil {
		return err
	}
	if !o.JSON {
		res.print(w)
		res.Figures = nil
	}
	return rig.PrintJSON(w, res)
}

func (b *bench) run(ctx context.Context) (*result, error) {
	res := &result{Rounds: b.Rounds, Connections: b.Conns, CPUs: runtime.NumCPU(), DelayMS: ms(b.Delay)}
	w, stop, err := watchDisk(b.dir)
	if err != nil {
		return nil, err
	}
	err = b.rounds(ctx, res)
	stop()
	longest, watchErr := w.worst()
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w (the longest fdatasync meanwhile took %s)", err, longest.Round(time.Millisecond))
	case watchErr != nil:
		return nil, watchErr
	}
	res.During = syncs{ms(w.syncs.quantile(0.5)), ms(w.syncs.quantile(0.99)), ms(longest), w.syncs.n}
	res.summarize()
	return res, nil
}

func (b *bench) rounds(ctx context.Context, res *result) error {
	var between histogram
	bar := rig.NewProgress("turns")
	done := 0
	for round := 1; round <= b.Rounds; round++ {
		if err := probe(b.dir, b.Syncs, &between); err != nil {
			return err
		}
		for _, v := range variants {
			fs, err := b.turn(ctx, v, round)
			if err != nil {
				return err
			}
			res.Figures = append(res.Figures, fs...)
			done++
			bar.Step(done, b.Rounds*len(variants), fmt.Sprintf("%s: %.0f and %.0f requests/s", v, fs[0].Rate, fs[1].Rate))
		}
	}
	res.Between = syncs{ms(between.quantile(0.5)), ms(between.quantile(0.99)), ms(between.quantile(1)), between.n}
	return nil
}

func ms(d time.Duration) float64 { return round3(d.Seconds() * 1e3) }

// startAPI starts the stub API in a process of its own.
func startAPI(ctx context.Context, self string, delay time.Duration) (addr string, stop func(), err error) {
	cmd := exec.CommandContext(ctx, self, roleAPI, "-delay", delay.String())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("starting the stub API: %w", err)
	}
	stop = func() {
		_ = in.Close() // its sign to end
		_ = cmd.Wait()
	}
	addr, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("starting the stub API: it gave no address: %w", err)
	}
	return strings.TrimSpace(addr), stop, nil
}
