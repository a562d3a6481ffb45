// Transparency shows that nobody can tell that we are there: it looks at the
// same build with and without audit_log, from the client's side and from the
// API's, item by item, and compares all that can be seen.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

type options struct {
	setup   rig.Setup
	plain   string
	parts   string
	only    string
	size    string
	verbose bool
	all     bool
}

func main() {
	var o options
	fs := flag.NewFlagSet("transparency", flag.ExitOnError)
	fs.StringVar(&o.setup.Caddy, "caddy", "", "the `binary` under test (default: build ./cmd/caddy)")
	fs.StringVar(&o.plain, "plain", "", "the `binary` to compare with, such as Caddy as it is released (default: the one under test, without audit_log)")
	fs.BoolVar(&o.setup.Keep, "keep", false, "keep the working directory, as a failed run always does")
	fs.StringVar(&o.parts, "parts", "items,size,h2spec", "what to `run`")
	fs.StringVar(&o.only, "only", "", "run items whose \"name/protocol\" matches the `expression`")
	fs.StringVar(&o.size, "size", "256MiB", "the `size` of the large answer and upload; 5GiB is the full form")
	fs.BoolVar(&o.all, "all", false, "turn everything on that looks at what passes; then a file is not copied by the kernel, since its bytes are looked at")
	fs.BoolVar(&o.verbose, "v", false, "print what was seen in each item")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), "Compares what can be seen of a server with and without audit_log.\n\n"+
			"  go run ./bench/transparency\n  go run ./bench/transparency -size 5GiB\n  go run ./bench/transparency -parts items -only WebSocket -v\n  go run ./bench/transparency -all -parts items\n\n")
		fs.PrintDefaults()
	}
	_ = fs.Parse(os.Args[1:]) // exits by itself
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := transparency(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "transparency:", err)
		os.Exit(1)
	}
}

// result is printed as the last line.
type result struct {
	Items     int            `json:"items"`
	Same      int            `json:"same"`
	Different []string       `json:"different"`
	Vacuous   []string       `json:"vacuous"`
	AuditIDs  int64          `json:"audit_ids"`
	Transfers []transfer     `json:"transfers"`
	NotFlat   []string       `json:"not_flat"`
	H2spec    []h2specResult `json:"h2spec"`
	Seconds   float64        `json:"seconds"`
	OK        bool           `json:"ok"`
}

// errSeen is a run that found what it looks for.
var errSeen = errors.New("comparing plain and audited: they can be told apart, or an item showed nothing; see above")

func transparency(ctx context.Context, o options, w io.Writer) (err error) {
	start := time.Now()
	size, err := parseSize(o.size)
	if err != nil {
		return err
	}
	only, err := regexp.Compile(o.only)
	if err != nil {
		return fmt.Errorf("reading -only: %w", err)
	}
	parts := strings.Split(o.parts, ",")
	for _, p := range parts {
		if !slices.Contains([]string{"items", "size", "h2spec"}, p) {
			return fmt.Errorf("reading -parts: %q is none of items, size and h2spec", p)
		}
	}
	setup, dir, err := o.setup.Complete(ctx, "transparency")
	if err != nil {
		return err
	}
	defer func() {
		if setup.Keep || err != nil {
			fmt.Fprintln(os.Stderr, "transparency: the evidence is in", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	ours := auditSite
	if o.all {
		ours = auditAll
	}
	plain, audited, stop, err := both(ctx, setup, ours, o.plain, dir)
	if err != nil {
		return err
	}
	defer stop()
	res := &result{Different: []string{}, Vacuous: []string{}, NotFlat: []string{}, Transfers: []transfer{}, H2spec: []h2specResult{}}
	b := &bench{plain: plain, audited: audited, dir: dir, w: w, res: res, verbose: o.verbose, looks: o.all}
	// Memory first, while nothing else has made the servers grow.
	if slices.Contains(parts, "size") {
		if err := b.size(ctx, size); err != nil {
			return err
		}
	}
	if slices.Contains(parts, "items") {
		if err := b.items(ctx, only); err != nil {
			return err
		}
	}
	if slices.Contains(parts, "h2spec") {
		if err := b.h2spec(ctx); err != nil {
			return err
		}
	}
	if err := errors.Join(plain.proc.Crashed(), audited.proc.Crashed()); err != nil {
		return err
	}
	res.AuditIDs = audited.ids.Load()
	res.Seconds = time.Since(start).Round(time.Millisecond).Seconds()
	res.OK = len(res.Different)+len(res.Vacuous)+len(res.NotFlat) == 0
	if err := rig.PrintJSON(w, res); err != nil || res.OK {
		return err
	}
	return errSeen
}

// both starts both servers.
func both(ctx context.Context, setup rig.Setup, ours, other, dir string) (plain, audited *server, stop func(), err error) {
	root := filepath.Join(dir, "files")
	if err := makeFiles(root); err != nil {
		return nil, nil, nil, err
	}
	c, err := newCert()
	if err != nil {
		return nil, nil, nil, err
	}
	if audited, err = start(ctx, setup, filepath.Join(dir, "audited"), root, c, ours); err != nil {
		return nil, nil, nil, err
	}
	if other != "" {
		if setup.Caddy, err = filepath.Abs(other); err != nil {
			return nil, nil, nil, err
		}
	}
	if plain, err = start(ctx, setup, filepath.Join(dir, "plain"), root, c, ""); err != nil {
		audited.stop()
		return nil, nil, nil, err
	}
	return plain, audited, func() { plain.stop(); audited.stop() }, nil
}

// bench is a run of this program.
type bench struct {
	plain, audited *server
	dir            string
	w              io.Writer
	res            *result
	verbose        bool
	looks          bool // everything is on that looks at what passes
}

func (b *bench) items(ctx context.Context, only *regexp.Regexp) error {
	type todo struct {
		*item
		proto string
	}
	var all []todo
	for _, it := range slices.Concat(answers(), byCaddy(), requests(), connections(), streams(), failures(), upgrades(), files()) {
		for _, proto := range it.protos {
			if b.looks && it.name == copiedByKernel {
				continue // its bytes are looked at, which the kernel cannot do
			}
			if only.MatchString(it.name + "/" + proto) {
				all = append(all, todo{it, proto})
			}
		}
	}
	bar := rig.NewProgress("items")
	var rows []row
	for i, t := range all {
		if err := ctx.Err(); err != nil {
			printTable(b.w, rows) // what there is of it
			return err
		}
		r := compare(t.item, t.proto,
			func() transcript { return b.show("plain", b.plain.play(t.item, t.proto)) },
			func() transcript { return b.show("audited", b.audited.play(t.item, t.proto)) })
		rows = append(rows, r)
		name := r.Item + " over " + r.Proto
		switch {
		case !r.Same:
			b.res.Different = append(b.res.Different, name)
		case r.Unlike != "":
			b.res.Vacuous = append(b.res.Vacuous, name)
		default:
			b.res.Same++
		}
		bar.Step(i+1, len(all), name)
	}
	b.res.Items = len(rows)
	printTable(b.w, rows)
	return nil
}

func (b *bench) show(who string, t transcript) transcript {
	if b.verbose {
		fmt.Fprintf(b.w, "--- %s: %s\n    %s\n", who, t.summary, strings.Join(t.lines, "\n    "))
	}
	return t
}

func (b *bench) size(ctx context.Context, size int64) error {
	bar := rig.NewProgress("transfers")
	done := 0
	for _, s := range []*server{b.plain, b.audited} {
		ts, err := s.transfers(ctx, size, func(what string) {
			bar.Step(done, 12, what)
			done++
		})
		b.res.Transfers = append(b.res.Transfers, ts...)
		if err != nil {
			return err
		}
	}
	bar.Step(12, 12, "done")
	for _, t := range b.res.Transfers {
		fmt.Fprintf(b.w, "%-7s %-6s of %-8s over %-2s: memory %s, at most %s, %.0f MB/s\n",
			t.Server, t.Way, human(t.Bytes), t.Proto, human(t.Before), human(t.Most), t.MBps)
		if !t.Flat {
			b.res.NotFlat = append(b.res.NotFlat, fmt.Sprintf("%s %s over %s", t.Server, t.Way, t.Proto))
		}
	}
	return nil
}

func (b *bench) h2spec(ctx context.Context) error {
	bin, err := installH2spec(ctx, b.dir)
	if err != nil {
		return err
	}
	for _, overTLS := range []bool{true, false} {
		r, err := h2specBoth(ctx, bin, b.dir, b.plain, b.audited, overTLS)
		if err != nil {
			return err
		}
		b.res.H2spec = append(b.res.H2spec, r)
		fmt.Fprintf(b.w, "h2spec over %s: %d of %d pass with plain Caddy; failing: %s; differing: %s\n",
			r.Over, r.Cases-len(r.Failing), r.Cases, strings.Join(r.Failing, ", "), strings.Join(r.Differ, ", "))
		for _, d := range r.Differ {
			b.res.Different = append(b.res.Different, "h2spec "+d+" over "+r.Over)
		}
	}
	return nil
}
