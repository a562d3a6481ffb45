// Outage is the outside look at delivery: it takes the stores of a running build
// away under load, breaks their network and kills their server, and then asks
// whether every store has what it was promised and whether any caller noticed.
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
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// The kinds of stores.
const (
	sqliteKind   = "sqlite"
	postgresKind = "postgres"
	httpKind     = "http"
	fileKind     = "file"
	natsKind     = "nats"
	s3Kind       = "s3"
	otlpKind     = "otlp"
	syslogKind   = "syslog"
)

var (
	kinds = []string{sqliteKind, postgresKind, httpKind, fileKind, natsKind, s3Kind, otlpKind, syslogKind}
	// bareKinds are those with a client of their own, against which drain measures.
	bareKinds = []string{sqliteKind, postgresKind, fileKind, httpKind, natsKind, s3Kind, otlpKind, syslogKind}
)

// The trials.
const (
	trialOutage     = "outage"
	trialNetwork    = "network"
	trialKills      = "kills"
	trialDetachable = "detachable"
	trialTwo        = "two"
	trialQuarantine = "quarantine"
	trialCluster    = "cluster"
	trialDrain      = "drain"
)

var trials = []string{trialOutage, trialNetwork, trialKills, trialDetachable, trialTwo, trialQuarantine, trialCluster, trialDrain}

type options struct {
	rig.Setup
	Only      string
	Store     string
	Down      time.Duration
	Warm      time.Duration
	After     time.Duration
	Clients   int
	Reads     float64
	Pause     time.Duration
	Drain     time.Duration
	Toxic     time.Duration
	Toxiproxy string
	Kills     int
	Every     time.Duration
	Quorum    time.Duration
	Backlog   int
	Rounds    int
}

func main() {
	var o options
	fs := flag.NewFlagSet("outage", flag.ExitOnError)
	o.Register(fs)
	fs.StringVar(&o.Only, "only", strings.Join(trials, ","), "which `trials`")
	fs.StringVar(&o.Store, "store", strings.Join(kinds, ","), "which `stores`, of the trials that have a choice")
	fs.DurationVar(&o.Down, "down", 5*time.Minute, "how `long` a store is away; two stays at 10s, and detachable counts from its detaching")
	fs.DurationVar(&o.Warm, "before", 10*time.Second, "how `long` to call before")
	fs.DurationVar(&o.After, "after", 10*time.Second, "how `long` to call afterwards")
	fs.IntVar(&o.Clients, "clients", 32, "how `many` connections call each build")
	fs.Float64Var(&o.Reads, "reads", 0.5, "`share` of calls that only read")
	fs.DurationVar(&o.Pause, "pause", 50*time.Millisecond, "mean `rest` of a connection between two calls")
	fs.DurationVar(&o.Drain, "within", 3*time.Minute, "how `long` it may take to deliver what waits")
	fs.DurationVar(&o.Toxic, "toxic", 20*time.Second, "how `long` the network is bad in each way")
	fs.StringVar(&o.Toxiproxy, "toxiproxy", "", "toxiproxy's server, a `program` (default: build "+toxiproxy+" once)")
	fs.IntVar(&o.Kills, "kills", 20, "how `many` times to kill PostgreSQL")
	fs.DurationVar(&o.Every, "every", 20*time.Second, "how `often` cluster kills one of three NATS servers, for -down")
	fs.DurationVar(&o.Quorum, "quorum", time.Minute, "how `long` cluster then stops two of them")
	fs.IntVar(&o.Backlog, "backlog", 200_000, "how `many` entries wait for drain")
	fs.IntVar(&o.Rounds, "rounds", 5, "how `many` times drain is measured")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), "Takes a running build's stores away under load and compares what happened with what they have afterwards.\n\n"+
			"  go run ./bench/outage\n  go run ./bench/outage -only outage -store http -down 30s\n  go run ./bench/outage -only kills -kills 5\n\n")
		fs.PrintDefaults()
	}
	_ = fs.Parse(os.Args[1:]) // exits by itself
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	v, err := outage(ctx, o, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "outage:", err)
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
	Drain  []*pace   `json:"drain,omitempty"`
}

func outage(ctx context.Context, o options, w io.Writer) (v *verdict, err error) {
	v = &verdict{}
	only, err := choice("-only", o.Only, trials)
	if err != nil {
		return v, err
	}
	stores, err := choice("-store", o.Store, kinds)
	if err != nil {
		return v, err
	}
	if o.Clients < 1 || o.Reads < 0 || o.Reads > 1 || o.Kills < 1 || o.Backlog < 1 || o.Rounds < 1 ||
		o.Down <= 0 || o.Warm <= 0 || o.After <= 0 || o.Toxic <= 0 || o.Every <= 0 || o.Quorum <= 0 || o.Pause < 0 {
		return v, fmt.Errorf("reading the options: -reads must be between 0 and 1, -pause not negative, and all other numbers and times above zero")
	}
	var dir string
	if o.Setup, dir, err = o.Complete(ctx, "outage"); err != nil {
		return v, err
	}
	defer func() {
		if o.Keep || err != nil || !v.Held {
			fmt.Fprintln(os.Stderr, "outage: the evidence is in", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	if slices.Contains(only, trialNetwork) {
		if o.Toxiproxy, err = buildToxiproxy(ctx, o.Toxiproxy); err != nil {
			return v, err
		}
	}
	for _, together := range o.plan(only, stores) {
		results, err := run(ctx, together, dir)
		v.Trials = append(v.Trials, results...)
		for _, r := range results {
			r.Report(w)
			for _, l := range r.Stores {
				l.Report(w)
			}
		}
		if err != nil {
			return v, err
		}
	}
	if slices.Contains(only, trialDrain) {
		if v.Drain, err = o.drain(ctx, stores, filepath.Join(dir, trialDrain)); err != nil {
			return v, err
		}
	}
	v.Held = len(v.Trials)+len(v.Drain) > 0
	for _, r := range v.Trials {
		v.Held = v.Held && r.held()
	}
	return v, rig.PrintJSON(w, v)
}

// trial is one that runs beside others.
type trial struct {
	name string
	run  func(ctx context.Context, dir string) ([]*result, error)
}

// sideBySide is how many outages run at the same time: each has a build, an API, callers
// and servers of its own.
const sideBySide = 4

// plan says which trials run at the same time. Nothing is measured in them, but for
// the answers' times, which are for people.
func (o options) plan(only, stores []string) (plan [][]trial) {
	var outages, networks, others []trial
	for _, kind := range stores {
		outages = append(outages, trial{trialOutage + "-" + kind, func(ctx context.Context, dir string) ([]*result, error) {
			return o.outage(ctx, kind, dir)
		}})
		if kind == httpKind || kind == postgresKind || kind == syslogKind {
			networks = append(networks, trial{trialNetwork + "-" + kind, func(ctx context.Context, dir string) ([]*result, error) {
				return o.network(ctx, kind, dir)
			}})
		}
	}
	for name, run := range map[string]func(context.Context, string) ([]*result, error){
		trialKills: o.kills, trialDetachable: o.detachable, trialTwo: o.two, trialQuarantine: o.quarantine, trialCluster: o.cluster,
	} {
		if slices.Contains(only, name) {
			others = append(others, trial{name, run})
		}
	}
	slices.SortFunc(others, func(a, b trial) int { return strings.Compare(a.name, b.name) })
	if slices.Contains(only, trialOutage) {
		for some := range slices.Chunk(outages, sideBySide) {
			plan = append(plan, some)
		}
	}
	if slices.Contains(only, trialNetwork) && len(networks) > 0 {
		plan = append(plan, networks)
	}
	if len(others) > 0 {
		plan = append(plan, others)
	}
	return plan
}

// run runs trials at the same time. The first that cannot go on ends all.
func run(ctx context.Context, together []trial, dir string) (all []*result, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	results := make([][]*result, len(together))
	var wg sync.WaitGroup
	for i, t := range together {
		wg.Go(func() {
			var err error
			if results[i], err = t.run(ctx, filepath.Join(dir, t.name)); err != nil {
				cancel(fmt.Errorf("%s: %w", t.name, err))
			}
		})
	}
	wg.Wait()
	return slices.Concat(results...), context.Cause(ctx)
}

// choice reads an option that names some of words.
func choice(name, value string, words []string) ([]string, error) {
	chosen := strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
	for _, c := range chosen {
		if !slices.Contains(words, c) {
			return nil, fmt.Errorf("reading the options: %s %q must be some of %q, separated by commas", name, c, words)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("reading the options: %s must be some of %q, separated by commas", name, words)
	}
	return chosen, nil
}
