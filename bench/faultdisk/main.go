//go:build linux

// Faultdisk runs a build with its buffer on a filesystem that fails, hangs and
// does things by half, one operation after the other, and heals each time. The
// build is not restarted meanwhile. Then it asks whether the promise was kept.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/faultfs"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/oracle"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

type options struct {
	rig.Setup
	OnFault string
	Only    string
	Clients int
	Reads   float64
	Pause   time.Duration
	Seed    uint64
	Ill     time.Duration
	Well    time.Duration
	Heal    time.Duration
	MaxWait time.Duration
	Segment string
	Drain   time.Duration
}

func main() {
	var o options
	fs := flag.NewFlagSet("faultdisk", flag.ExitOnError)
	o.Register(fs)
	fs.StringVar(&o.OnFault, "on-fault", "reject", "the buffer's on_fault: `reject` or pass")
	fs.StringVar(&o.Only, "only", "", "only the faults with one of these `names` or a word of theirs, as in \"fsync,rename hang\" (default: every fault)")
	fs.IntVar(&o.Clients, "clients", 16, "how `many` clients call")
	fs.Float64Var(&o.Reads, "reads", 0.3, "`share` of calls that only read")
	fs.DurationVar(&o.Pause, "pause", 5*time.Millisecond, "how `long` a client rests between two calls, in the mean")
	fs.Uint64Var(&o.Seed, "seed", 0, "seed of the calls (default: a random one)")
	fs.DurationVar(&o.Ill, "ill", 3*time.Second, "how `long` each fault lasts")
	fs.DurationVar(&o.Well, "well", 2*time.Second, "how `long` the disk works between two faults")
	fs.DurationVar(&o.Heal, "heal", 10*time.Second, "how `long` after a fault calls may still not be recorded")
	fs.DurationVar(&o.MaxWait, "max-wait", time.Second, "the buffer's max_wait; below -ill, so that hangs outlast it")
	fs.StringVar(&o.Segment, "segment-size", "1MiB", "seal the buffer's files at this `size`; it must be small enough for several in each fault")
	fs.DurationVar(&o.Drain, "drain", 2*time.Minute, "how `long` it may take to deliver everything in the end")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), "Lets a running build's disk fail, hang and do things by half, and heals it, without a restart.\n"+
			"Needs Linux, root and FUSE.\n\n"+
			"  sudo go run ./bench/faultdisk\n  sudo go run ./bench/faultdisk -on-fault pass -only fsync\n\n")
		fs.PrintDefaults()
	}
	_ = fs.Parse(os.Args[1:]) // exits by itself
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	v, err := faultdisk(ctx, o, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "faultdisk:", err)
	}
	if err != nil || !v.held() {
		stop()
		os.Exit(1)
	}
}

// verdict is what a run found; it is the program's last line.
type verdict struct {
	Seed    uint64    `json:"seed"`
	OnFault string    `json:"on_fault"`
	Faults  []illness `json:"faults"`
	// Unhealed are faults after which calls were not recorded again in time.
	Unhealed int `json:"unhealed"`
	// Unhit are faults that no operation met, so that they showed nothing.
	Unhit int `json:"unhit"`
	oracle.Verdict
}

// illness is one fault's turn: what the clients saw while it lasted and until
// calls were recorded again.
type illness struct {
	Fault   string `json:"fault"`
	Hits    int    `json:"hits"`
	Acked   int    `json:"acked"`
	Refused int    `json:"refused"`
	Late    int    `json:"late"`
	// HealedMS is how long after the fault a call was recorded again.
	HealedMS int64 `json:"healed_ms"`
}

func (v *verdict) held() bool { return v.Held() && v.Unhealed+v.Unhit == 0 && len(v.Faults) > 0 }

func faultdisk(ctx context.Context, o options, w io.Writer) (v *verdict, err error) {
	v = &verdict{Seed: o.Seed, OnFault: o.OnFault}
	faults := chosen(o.Only)
	switch {
	case o.OnFault != "reject" && o.OnFault != "pass":
		return v, fmt.Errorf("reading the options: -on-fault %q: give reject or pass", o.OnFault)
	case len(faults) == 0:
		return v, fmt.Errorf("reading the options: -only %q names no fault: give words of %s", o.Only, names())
	case o.Clients < 1 || o.Reads < 0 || o.Reads > 1:
		return v, errors.New("reading the options: -clients must be at least 1, -reads between 0 and 1")
	}
	if err := faultfs.Possible(); err != nil {
		return v, err
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
		v.Seed = o.Seed
	}
	setup, dir, err := o.Complete(ctx, "faultdisk")
	if err != nil {
		return v, err
	}
	defer func() {
		if o.Keep || err != nil || !v.held() {
			fmt.Fprintln(os.Stderr, "faultdisk: the evidence is in", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	fmt.Fprintf(os.Stderr, "seed: %d\n", o.Seed)
	for option, value := range map[string]string{"on_fault": o.OnFault, "max_wait": o.MaxWait.String(), "segment_size": o.Segment} {
		if setup.Caddyfile, err = rig.WithBuffer(setup.Caddyfile, dir, option, value); err != nil {
			return v, err
		}
	}
	orc := oracle.New(o.MaxWait)
	api, stopAPI, err := rig.Serve(orc)
	if err != nil {
		return v, err
	}
	defer stopAPI()
	site, err := rig.NewSite(setup, filepath.Join(dir, "site"), api)
	if err != nil {
		return v, err
	}
	// Only the buffer lies on the disk that fails. A store's faults are another
	// matter, and must not slow a call.
	behind, buffer := filepath.Join(dir, "behind"), filepath.Join(site.AuditDir(), "buffer")
	if err := errors.Join(os.MkdirAll(behind, 0o700), os.MkdirAll(buffer, 0o700)); err != nil {
		return v, fmt.Errorf("making the buffer's directory: %w", err)
	}
	disk, err := faultfs.Mount(buffer, behind)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, disk.Unmount()) }()
	d := &doctor{site: site, disk: disk, oracle: orc, v: v, o: o}
	err = d.run(ctx, faults)
	v.Report(w)
	if err != nil {
		return v, err
	}
	return v, rig.PrintJSON(w, v)
}

// table are the faults of a run, in their order.
func table() []faultfs.Fault {
	const slow = 300 * time.Millisecond
	var all []faultfs.Fault
	for _, row := range []struct {
		op    faultfs.Op
		kinds []faultfs.Kind
	}{
		{faultfs.Write, []faultfs.Kind{faultfs.Error, faultfs.Full, faultfs.Slow, faultfs.Short, faultfs.Doubt, faultfs.Hang}},
		{faultfs.Fsync, []faultfs.Kind{faultfs.Error, faultfs.Slow, faultfs.Doubt, faultfs.Hang}},
		{faultfs.SyncDir, []faultfs.Kind{faultfs.Error, faultfs.Slow, faultfs.Doubt, faultfs.Hang}},
		{faultfs.Rename, []faultfs.Kind{faultfs.Error, faultfs.Full, faultfs.Slow, faultfs.Doubt, faultfs.Hang}},
		{faultfs.Create, []faultfs.Kind{faultfs.Error, faultfs.Full, faultfs.Slow, faultfs.Doubt, faultfs.Hang}},
		{faultfs.Unlink, []faultfs.Kind{faultfs.Error, faultfs.Slow, faultfs.Doubt, faultfs.Hang}},
		{faultfs.Truncate, []faultfs.Kind{faultfs.Error, faultfs.Full, faultfs.Slow, faultfs.Doubt, faultfs.Hang}},
		{faultfs.Allocate, []faultfs.Kind{faultfs.Error, faultfs.Full, faultfs.Hang}},
		{faultfs.All, []faultfs.Kind{faultfs.Error, faultfs.Full, faultfs.Slow, faultfs.Hang}},
	} {
		for _, k := range row.kinds {
			all = append(all, faultfs.Fault{Op: row.op, Kind: k, Delay: slow})
		}
	}
	// A disk that works now and then, by which faults meet each other's cures.
	for _, k := range []faultfs.Kind{faultfs.Error, faultfs.Doubt, faultfs.Short} {
		all = append(all, faultfs.Fault{Op: faultfs.All, Kind: k, Chance: 0.3})
	}
	return append(all, faultfs.Fault{Op: faultfs.Fsync, Kind: faultfs.Error, Nth: 2}, faultfs.Fault{Op: faultfs.All, Kind: faultfs.Hang, Chance: 0.1})
}

func chosen(only string) []faultfs.Fault {
	if only == "" {
		return table()
	}
	var some []faultfs.Fault
	for _, f := range table() {
		for word := range strings.SplitSeq(only, ",") {
			if word = strings.TrimSpace(word); word != "" && strings.Contains(" "+f.String(), " "+word) {
				some = append(some, f)
				break
			}
		}
	}
	return some
}

func names() string {
	var all []string
	for _, f := range table() {
		all = append(all, f.String())
	}
	return strings.Join(all, ", ")
}
