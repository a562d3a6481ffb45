// Reload is an outside oracle of reloading: it reloads a running build again
// and again under load, also with configurations that are invalid, and asks
// whether anybody noticed and whether anything stayed behind.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

type options struct {
	rig.Setup
	Plain   string
	For     time.Duration
	Warm    time.Duration
	Every   time.Duration
	Clients int
	Rest    time.Duration
}

func main() {
	var o options
	fs := flag.NewFlagSet("reload", flag.ExitOnError)
	o.Register(fs)
	fs.StringVar(&o.Plain, "plain", "", "the `binary` to compare with, such as Caddy as it is released (default: the one under test, without audit_log)")
	fs.DurationVar(&o.For, "for", time.Minute, "how `long` to reload, each of the two builds")
	fs.DurationVar(&o.Warm, "warm", 4*time.Second, "how `long` to do so before goroutines and open files are counted first")
	fs.DurationVar(&o.Every, "every", 200*time.Millisecond, "how `often` to reload; one that takes longer delays the next")
	fs.IntVar(&o.Clients, "clients", 64, "how `many` connections carry calls")
	fs.DurationVar(&o.Rest, "rest", 10*time.Millisecond, "how `long` a connection rests between two calls, on average")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), "Reloads a running build under load, and plain Caddy in the same way, and compares what happened with what was stored.\n\n"+
			"  go run ./bench/reload\n  go run ./bench/reload -for 6s -caddy ./caddy\n\n")
		fs.PrintDefaults()
	}
	_ = fs.Parse(os.Args[1:]) // exits by itself
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	v, err := reload(ctx, o, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "reload:", err)
	}
	if err != nil || !v.Held {
		stop()
		os.Exit(1)
	}
}

func reload(ctx context.Context, o options, w io.Writer) (v *verdict, err error) {
	v = &verdict{}
	if o.Clients < 1 || o.Rest < 0 || o.Every <= 0 || o.For < invalidEvery*o.Every || o.Warm <= 0 {
		return v, fmt.Errorf("reading the options: -clients, -warm and -every must be above zero, -rest not below, and -for at least %d times -every", invalidEvery)
	}
	var dir string
	if o.Setup, dir, err = o.Complete(ctx, "reload"); err != nil {
		return v, err
	}
	defer func() {
		if o.Keep || err != nil || !v.Held {
			fmt.Fprintln(os.Stderr, "reload: the evidence is in", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	if o.Plain != "" {
		if o.Plain, err = filepath.Abs(o.Plain); err != nil {
			return v, fmt.Errorf("looking for the control: %w", err)
		}
	}
	if v.Plain, err = run(ctx, o, "plain", dir); err != nil {
		report(w, "plain", v.Plain)
		return v, fmt.Errorf("plain: %w", err)
	}
	report(w, "plain", v.Plain)
	v.Ours, err = run(ctx, o, "ours", dir)
	report(w, "ours", v.Ours)
	if err != nil {
		return v, fmt.Errorf("ours: %w", err)
	}
	v.judge()
	return v, rig.PrintJSON(w, v)
}

func report(w io.Writer, name string, r *result) {
	for _, p := range r.problems {
		fmt.Fprintf(w, "problem: %s: %s\n", name, p)
	}
}
