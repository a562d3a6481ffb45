//go:build unix

// Speed measures what durable auditing costs: a call, an append, a record, a drain. What is
// compared takes turns, and each figure that counts is a ratio.
package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

type options struct {
	rig.Setup
	Parts    string
	Variants string
	Rounds   int
	Warmup   time.Duration
	Start    time.Duration
	Duration time.Duration
	Entries  int
	Pending  int
	Rows     int
	Quick    bool
	Profiles string
	Parent   string
	Limit    float64
	JSON     bool
}

// The parts, in the order in which they run.
var partNames = []string{"requests", "appends", "records", "pending", "drains", "growth"}

func main() {
	if played, err := helper(os.Args[1:]); played {
		exit(err)
	}
	var o options
	fs := flag.NewFlagSet("speed", flag.ExitOnError)
	o.Register(fs)
	fs.StringVar(&o.Parts, "parts", "", "which `parts` to measure (default: all: "+strings.Join(partNames, ",")+"; with -quick not the last)")
	fs.StringVar(&o.Variants, "variants", "", "which `variants` of requests to measure, beside plain (default: all: "+strings.Join(variantNames(), ",")+")")
	fs.IntVar(&o.Rounds, "rounds", 5, "how `many` times each thing has its turn")
	fs.DurationVar(&o.Warmup, "warmup", 500*time.Millisecond, "`time` before each measurement")
	fs.DurationVar(&o.Start, "start", 2*time.Second, "`time` for which a server is called after its start, before it is measured")
	fs.DurationVar(&o.Duration, "duration", 3*time.Second, "`time` of each measurement")
	fs.IntVar(&o.Entries, "entries", 200_000, "how `many` entries a store is given")
	fs.IntVar(&o.Pending, "pending", 10_000_000, "how `many` entries wait in the full buffer")
	fs.IntVar(&o.Rows, "rows", 5_000_000, "how `many` entries the full store has")
	fs.BoolVar(&o.Quick, "quick", false, "only what the table of bars needs, with a tenth of -entries, -pending and -rows")
	fs.StringVar(&o.Parent, "parent", "", "compare with the build of the commit before, of which this is the `checkout`, and measure nothing else")
	fs.Float64Var(&o.Limit, "limit", 1.2, "with -parent: how `many` times its processor time a call may take")
	fs.StringVar(&o.Profiles, "profiles", "", "keep profiles in this `directory`")
	fs.BoolVar(&o.JSON, "json", false, "print only the JSON line, with the figures of each round")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), "Measures what durable auditing costs, in turns with what it is compared to.\n\n"+
			"  go run ./bench/speed\n  go run ./bench/speed -quick -parts requests,appends -rounds 3\n"+
			"  git worktree add /tmp/before HEAD^ && go run ./bench/speed -parent /tmp/before\n\n")
		fs.PrintDefaults()
	}
	_ = fs.Parse(os.Args[1:]) // exits by itself
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(speed(ctx, o, os.Stdout))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "speed:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// result is what the program prints last.
type result struct {
	Date    string  `json:"date"`
	Machine machine `json:"machine"`
	Rounds  int     `json:"rounds"`
	// Disk is what 4 KiB took to become durable, ten times a second all along, without the
	// product.
	Disk     syncs        `json:"fdatasync"`
	Bars     []bar        `json:"bars"`
	Requests []summary    `json:"requests,omitempty"`
	Appends  []appendLine `json:"appends,omitempty"`
	Records  []recordLine `json:"records,omitempty"`
	Pending  *pendingLine `json:"pending,omitempty"`
	Drains   []drainLine  `json:"drains,omitempty"`
	Growth   []curve      `json:"growth,omitempty"`
	Change   []changeLine `json:"change,omitempty"`
	// Figures are those of each round, printed with -json.
	Figures *everything `json:"figures,omitempty"`
}

type everything struct {
	Requests []figures  `json:"requests,omitempty"`
	Appends  []appended `json:"appends,omitempty"`
	Records  []recorded `json:"records,omitempty"`
	Drains   []drained  `json:"drains,omitempty"`
}

type machine struct {
	CPUs   int    `json:"cpus"`
	Model  string `json:"model,omitempty"`
	System string `json:"system"`
	Go     string `json:"go"`
}

// syncs is what it took to make 4 KiB durable, without the product.
type syncs struct {
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	Longest float64 `json:"longest_ms"`
	N       uint64  `json:"n"`
}

func speed(ctx context.Context, o options, w io.Writer) (err error) {
	parts := strings.Split(o.Parts, ",")
	switch {
	case o.Parts == "" && o.Quick:
		parts = partNames[:len(partNames)-1] // no bar is about growth
	case o.Parts == "":
		parts = partNames
	}
	for _, name := range parts {
		if !slices.Contains(partNames, name) {
			return fmt.Errorf("reading the options: there is no part %q: choose of %s", name, strings.Join(partNames, ","))
		}
	}
	some, err := chosen(o.Variants)
	if err != nil {
		return err
	}
	if o.Rounds < 1 || o.Duration <= 0 || o.Start <= 0 || o.Entries < 1 || o.Pending < 1 || o.Rows < 1 {
		return fmt.Errorf("reading the options: -rounds, -start, -duration, -entries, -pending and -rows must be positive")
	}
	if o.Quick {
		o.Entries, o.Pending, o.Rows = max(o.Entries/10, 1), max(o.Pending/10, 1), max(o.Rows/10, 1)
	}
	if o.Profiles != "" {
		if err := os.MkdirAll(o.Profiles, 0o700); err != nil {
			return fmt.Errorf("making the profiles' directory: %w", err)
		}
		if o.Profiles, err = filepath.Abs(o.Profiles); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	setup, dir, err := o.Complete(ctx, "speed")
	if err != nil {
		return err
	}
	defer func() {
		if o.Keep || err != nil {
			fmt.Fprintln(os.Stderr, "speed: the evidence is in", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	r := &runner{options: o, chosen: some, setup: setup, self: self, dir: dir}
	watched, stop, err := watchDisk(dir)
	if err != nil {
		return err
	}
	err = r.run(ctx, parts)
	stop()
	longest, watchErr := watched.worst()
	if err != nil {
		err = fmt.Errorf("%w (the longest fdatasync meanwhile took %s)", err, longest.Round(time.Millisecond))
	}
	err = errors.Join(err, watchErr)
	res := r.result() // of the parts that came to their end
	res.Disk = syncs{ms(watched.syncs.quantile(0.5)), ms(watched.syncs.quantile(0.99)), ms(longest), watched.syncs.n}
	if o.JSON {
		res.Figures = &everything{r.requests.figures, r.appends.figures, r.records.figures, r.drains.figures}
	} else {
		r.print(w, res)
	}
	return errors.Join(err, rig.PrintJSON(w, res), r.change.slower(o.Limit))
}

// runner has the parts.
type runner struct {
	options
	chosen    []variant
	setup     rig.Setup
	self, dir string

	requests requests
	appends  appends
	records  records
	pending  pending
	drains   drains
	growth   growth
	change   change
}

func (r *runner) run(ctx context.Context, parts []string) error {
	api, stopAPI, err := startAPI(ctx, r.self)
	if err != nil {
		return err
	}
	defer stopAPI()
	r.requests = requests{options: r.options, setup: r.setup, self: r.self, dir: r.dir, api: api}
	if r.Parent != "" {
		return r.compare(ctx)
	}
	if err := r.requests.read(); err != nil {
		return err
	}
	r.requests.chosen = r.chosen
	r.appends = appends{options: r.options, dir: r.dir}
	r.records = records{options: r.options, setup: r.setup, self: r.self, dir: r.dir}
	r.pending = pending{options: r.options, dir: r.dir}
	r.drains = drains{options: r.options, dir: r.dir}
	r.growth = growth{options: r.options, requests: r.requests, dir: r.dir}
	run := map[string]func(context.Context) error{
		"requests": r.requests.run, "appends": r.appends.run, "records": r.records.run, "pending": r.pending.run, "drains": r.drains.run,
		"growth": r.growth.run,
	}
	for _, name := range partNames {
		if !slices.Contains(parts, name) {
			continue
		}
		if err := run[name](ctx); err != nil {
			return err
		}
	}
	return nil
}

// compare holds the build against that of another checkout.
func (r *runner) compare(ctx context.Context) error {
	parent := rig.Setup{Caddy: filepath.Join(r.dir, "parent"), Caddyfile: filepath.Join(r.Parent, "Caddyfile")}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", parent.Caddy, "./cmd/caddy")
	cmd.Dir = r.Parent
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w: %s", r.Parent, err, out)
	}
	r.change = change{requests: r.requests, parent: parent}
	return r.change.run(ctx)
}

func (r *runner) result() *result {
	res := &result{Date: time.Now().UTC().Format(time.DateOnly), Machine: thisMachine(), Rounds: r.Rounds}
	if len(r.requests.figures) > 0 {
		res.Requests = r.requests.lines()
	}
	if len(r.appends.figures) > 0 {
		res.Appends = r.appends.lines()
	}
	if len(r.records.figures) > 0 {
		res.Records = r.records.lines()
	}
	if len(r.drains.figures) > 0 {
		res.Drains = r.drains.lines()
	}
	res.Pending, res.Growth, res.Change = r.pending.line, r.growth.curves, r.change.lines
	res.Bars = r.bars()
	return res
}

func (r *runner) print(w io.Writer, res *result) {
	fmt.Fprintf(w, "%s, %d CPUs (%s), %s, %s; %d rounds; median (min–max)\n", res.Date, res.Machine.CPUs, cmp.Or(res.Machine.Model, "unknown"), res.Machine.System, res.Machine.Go, r.Rounds)
	fmt.Fprintf(w, "disk meanwhile: fdatasync of 4 KiB p50 %.2f ms, p99 %.2f ms, longest %.0f ms (%d)\n", res.Disk.P50, res.Disk.P99, res.Disk.Longest, res.Disk.N)
	if res.Requests != nil {
		r.requests.print(w, res.Requests)
	}
	if res.Appends != nil {
		r.appends.print(w, res.Appends)
	}
	if res.Records != nil {
		r.records.print(w, res.Records)
	}
	if res.Pending != nil {
		r.pending.print(w)
	}
	if res.Drains != nil {
		r.drains.print(w, res.Drains)
	}
	for _, c := range res.Growth {
		c.plot(w)
	}
	if res.Change != nil {
		r.change.print(w)
		return
	}
	printBars(w, res.Bars)
}

func thisMachine() machine {
	m := machine{CPUs: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m // elsewhere it has another place, and nothing depends on it
	}
	for line := range strings.Lines(string(b)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			m.Model = strings.TrimSpace(value)
			break
		}
	}
	return m
}

// startAPI starts the stub API in a process of its own.
func startAPI(ctx context.Context, self string) (addr string, stop func(), err error) {
	cmd := exec.CommandContext(ctx, self, roleAPI)
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
