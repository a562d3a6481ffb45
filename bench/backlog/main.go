// Backlog measures a buffer in which millions of entries wait: how long a start
// takes, what of memory it holds, whether calls are recorded as fast as into an
// empty one, and how fast a cold backlog is read and delivered.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

type options struct {
	rig.Setup
	Entries  int
	Size     int
	Rounds   int
	Conns    int
	Duration time.Duration
	Read     time.Duration
	Drain    time.Duration
}

func main() {
	var o options
	fs := flag.NewFlagSet("backlog", flag.ExitOnError)
	o.Register(fs)
	fs.IntVar(&o.Entries, "entries", 10_000_000, "how `many` entries wait, at least")
	fs.IntVar(&o.Size, "size", 600, "`bytes` of an entry, about")
	fs.IntVar(&o.Rounds, "rounds", 3, "how `many` times a start and the load are measured")
	fs.IntVar(&o.Conns, "c", 64, "how `many` connections")
	fs.DurationVar(&o.Duration, "duration", 5*time.Second, "`time` of each load")
	fs.DurationVar(&o.Read, "read", 40*time.Second, "how `long` to read at most without a store")
	fs.DurationVar(&o.Drain, "drain", time.Minute, "how `long` to deliver at most")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), "Fills a buffer and measures a start on it, the load on it, and its delivery.\n\n"+
			"  go run ./bench/backlog\n  go run ./bench/backlog -entries 200000 -rounds 1 -drain 5s\n\n")
		fs.PrintDefaults()
	}
	_ = fs.Parse(os.Args[1:]) // exits by itself
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := backlog(ctx, o, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "backlog:", err)
	}
	if err != nil || len(r.broken()) > 0 {
		stop()
		os.Exit(1)
	}
}

func backlog(ctx context.Context, o options, w io.Writer) (res *result, err error) {
	res = &result{Cold: true}
	if o.Entries < 1 || o.Size < 1 || o.Rounds < 1 || o.Conns < 1 || o.Duration <= 0 || o.Read <= 0 || o.Drain <= 0 {
		return res, errors.New("reading the options: all numbers and times must be above zero")
	}
	setup, dir, err := o.Complete(ctx, "backlog")
	if err != nil {
		return res, err
	}
	defer func() {
		// Gigabytes are no evidence: the figures are, and the log.
		for _, name := range []string{"full/audit", "empty/audit"} {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
		}
		if o.Keep || err != nil || len(res.broken()) > 0 {
			fmt.Fprintln(os.Stderr, "backlog: the logs are in", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	need := int64(o.Entries)*int64(o.Size)*5/4 + 1<<30
	if have, err := room(dir); err != nil {
		return res, err
	} else if have < need {
		return res, fmt.Errorf("making room in %s: %d MiB are free and about %d MiB are needed: choose another with TMPDIR, or fewer -entries", dir, have>>20, need>>20)
	}
	b := &bench{options: o, res: res, fill: filepath.Join(dir, "fill")}
	if b.Caddyfile, err = roomy(setup.Caddyfile, dir); err != nil {
		return res, err
	}
	setup.Caddyfile = b.Caddyfile
	b.Setup = setup
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", b.fill, fillPackage).CombinedOutput(); err != nil {
		return res, fmt.Errorf("building fill (run inside the module): %w: %s", err, out)
	}
	stub, stop, err := rig.Serve(api{})
	if err != nil {
		return res, err
	}
	defer stop()
	for name, p := range map[string]**place{"full": &b.full, "empty": &b.empty} {
		site, err := rig.NewSite(setup, filepath.Join(dir, name), stub)
		if err != nil {
			return res, err
		}
		*p = &place{Site: site}
	}
	if err := b.run(ctx); err != nil {
		return res, err
	}
	res.print(w)
	return res, rig.PrintJSON(w, res)
}

const fillPackage = "github.com/caddy-audit-log/caddy-audit-log/bench/backlog/fill"

// roomy writes the configuration with a buffer that ten million entries do not
// fill.
func roomy(caddyfile, dir string) (string, error) {
	b, err := os.ReadFile(caddyfile)
	if err != nil {
		return "", fmt.Errorf("reading the Caddyfile: %w", err)
	}
	line := regexp.MustCompile(`(?m)^(\s*)max_size .*$`)
	if len(line.FindAll(b, 2)) != 1 {
		return "", fmt.Errorf("setting max_size: %s does not have exactly one such line; name a file that is like the shipped one with -caddyfile", caddyfile)
	}
	path := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(path, line.ReplaceAll(b, []byte("${1}max_size 1TiB")), 0o600); err != nil {
		return "", fmt.Errorf("setting max_size: %w", err)
	}
	return path, nil
}

// filled is what fill prints.
type filled struct {
	Entries  int     `json:"entries"`
	Bytes    int64   `json:"bytes"`
	Segments int     `json:"segments"`
	Seconds  float64 `json:"seconds"`
}

func (b *bench) runFill(ctx context.Context, args ...string) (f filled, err error) {
	cmd := exec.CommandContext(ctx, b.fill, append([]string{"-dir", b.full.buffer()}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return f, fmt.Errorf("running fill %q: %w", args, err)
	}
	if err := json.Unmarshal(out, &f); err != nil {
		return f, fmt.Errorf("reading what fill says: %w: %.200q", err, out)
	}
	return f, nil
}

func (b *bench) run(ctx context.Context) error {
	fmt.Fprintf(os.Stderr, "filling a buffer with %d entries\n", b.Entries)
	f, err := b.runFill(ctx, "-entries", strconv.Itoa(b.Entries), "-size", strconv.Itoa(b.Size))
	if err != nil {
		return err
	}
	r := b.res
	r.Entries, r.MiB, r.Segments, r.FillRate = f.Entries, f.Bytes>>20, f.Segments, rate(f.Entries, f.Seconds)
	if err := b.full.remember(); err != nil {
		return err
	}
	bar := rig.NewProgress("steps")
	steps := 3*b.Rounds + 2
	step := func(n int, what string) { bar.Step(n, steps, what) }
	for n := range b.Rounds {
		if err := b.full.reset(); err != nil {
			return err
		}
		if err := b.cold(); err != nil {
			return err
		}
		if f, err = b.runFill(ctx, "-open"); err != nil {
			return err
		}
		r.opens = append(r.opens, 1e3*f.Seconds)
		step(3*n+1, fmt.Sprintf("the package opens it in %.0f ms", 1e3*f.Seconds))
		for i, t := range []struct {
			p  *place
			to *turns
		}{{b.full, &r.Full}, {b.empty, &r.Empty}} {
			if err := b.turn(ctx, t.p, t.to); err != nil {
				return err
			}
			step(3*n+2+i, fmt.Sprintf("%s: first call after %.0f ms, then %.0f calls/s", filepath.Base(t.p.Dir), t.to.firsts[n], t.to.rates[n]))
		}
	}
	if err := b.full.reset(); err != nil {
		return err
	}
	if err := b.cold(); err != nil {
		return err
	}
	if f, err = b.runFill(ctx, "-read", "-within", b.Read.String()); err != nil {
		return err
	}
	r.ReadRate = rate(f.Entries, f.Seconds)
	step(steps-1, fmt.Sprintf("the package reads %.0f entries/s", r.ReadRate))
	if err := b.drain(ctx); err != nil {
		return err
	}
	step(steps, fmt.Sprintf("delivered %.0f entries/s", r.DrainRate))
	r.summarize()
	return nil
}

// cold empties the page cache, if that is possible here.
func (b *bench) cold() error {
	if !b.res.Cold {
		return nil
	}
	if err := dropCaches(); err != nil {
		fmt.Fprintln(os.Stderr, "backlog: everything is measured with what is in memory anyway:", err)
		b.res.Cold = false
	}
	return nil
}
