// Diskfull is an outside oracle of what happens when the buffer has no room:
// it fills the buffer's disk, or keeps its store from taking anything, under
// load and for a while, and then asks whether every call was answered, stored
// and counted as on_fault promises.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// What on_fault may be, and what takes the room.
const (
	reject = "reject"
	pass   = "pass"

	disk = "disk" // the buffer's filesystem is full
	size = "size" // the buffer has its own max_size

	both = "both"
)

type options struct {
	rig.Setup
	OnFault string
	Cause   string
	For     time.Duration
	Warm    time.Duration
	After   time.Duration
	Drain   time.Duration
	Clients int
	Reads   float64
	Disk    int
	MinFree string
}

func main() {
	var o options
	fs := flag.NewFlagSet("diskfull", flag.ExitOnError)
	o.Register(fs)
	fs.StringVar(&o.OnFault, "on-fault", both, "the `mode` under test: reject, pass or both")
	fs.StringVar(&o.Cause, "cause", both, "what takes the `room`: disk fills a small filesystem that only the buffer is on (needs root, loop devices and Linux), size lets the store take nothing until the buffer has its max_size; or both")
	fs.DurationVar(&o.For, "for", time.Minute, "how `long` the buffer has no room, each time")
	fs.DurationVar(&o.Warm, "warm", 2*time.Second, "how `long` to call before")
	fs.DurationVar(&o.After, "after", 5*time.Second, "how `long` to call after calls are recorded again")
	fs.DurationVar(&o.Drain, "drain", 2*time.Minute, "how `long` it may take to deliver everything")
	fs.IntVar(&o.Clients, "clients", 64, "how `many` clients call at full speed")
	fs.Float64Var(&o.Reads, "reads", 0.5, "`share` of calls that only read")
	fs.IntVar(&o.Disk, "disk", 64, "size of the small filesystem in `MiB`")
	fs.StringVar(&o.MinFree, "min-free", "4MiB", "the buffer's min_free as a `size`; empty: none is written down")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), "Takes the buffer's room away under load, gives it back, and compares what happened with what was stored and counted.\n\n"+
			"  go run ./bench/diskfull\n  go run ./bench/diskfull -cause size -on-fault reject -for 10s\n\n")
		fs.PrintDefaults()
	}
	_ = fs.Parse(os.Args[1:]) // exits by itself
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	v, err := diskfull(ctx, o, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "diskfull:", err)
	}
	if err != nil || !v.Held {
		stop()
		os.Exit(1)
	}
}

// verdict is the program's last line.
type verdict struct {
	Held   bool      `json:"held"`
	Trials []*result `json:"trials"`
}

func diskfull(ctx context.Context, o options, w io.Writer) (v *verdict, err error) {
	v = &verdict{}
	modes, err := choice("-on-fault", o.OnFault, reject, pass)
	if err != nil {
		return v, err
	}
	causes, err := choice("-cause", o.Cause, disk, size)
	if err != nil {
		return v, err
	}
	if o.Clients < 1 || o.Reads < 0 || o.Reads > 1 || o.For <= 0 || o.Warm <= 0 || o.After <= 0 || o.Disk < 16 {
		return v, fmt.Errorf("reading the options: -clients must be at least 1, -reads between 0 and 1, -disk at least 16, and -for, -warm and -after above zero")
	}
	if slices.Contains(causes, disk) {
		// Said at once, not after minutes of the other cause.
		if err := canMount(); err != nil {
			return v, fmt.Errorf("making a small filesystem (-cause size needs none): %w", err)
		}
	}
	var dir string
	if o.Setup, dir, err = o.Complete(ctx, "diskfull"); err != nil {
		return v, err
	}
	defer func() {
		if o.Keep || err != nil || !v.Held {
			fmt.Fprintln(os.Stderr, "diskfull: the evidence is in", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	held := true
	for _, cause := range causes {
		for _, mode := range modes {
			t := &trial{options: o, mode: mode, cause: cause, v: &result{Mode: mode, Cause: cause}}
			v.Trials = append(v.Trials, t.v)
			err := t.run(ctx, filepath.Join(dir, cause+"-"+mode))
			t.v.Report(w)
			if err != nil {
				return v, fmt.Errorf("%s, on_fault %s: %w", cause, mode, err)
			}
			held = held && t.v.held()
		}
	}
	v.Held = held
	return v, rig.PrintJSON(w, v)
}

// choice reads an option that is one of some words, or both of them.
func choice(name, value string, words ...string) ([]string, error) {
	if value == both {
		return words, nil
	}
	if !slices.Contains(words, value) {
		return nil, fmt.Errorf("reading the options: %s %q must be one of %q or both", name, value, words)
	}
	return []string{value}, nil
}
