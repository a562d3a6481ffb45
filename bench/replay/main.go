// Replay sends every operation of a real API description through a running
// build to a stub API and compares what was recorded with an oracle that was
// written by hand.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

type options struct {
	rig.Setup
	Description string
	Routes      string
	Oracle      string
	Seed        uint64
	Outage      bool
}

func main() {
	var o options
	fs := flag.NewFlagSet("replay", flag.ExitOnError)
	o.Register(fs)
	fs.StringVar(&o.Description, "description", "", "an OpenAPI `file` to check operations and parameter shapes against (default: the operations of the oracle)")
	fs.StringVar(&o.Routes, "routes", "", "the dashboard's routes as a CSV `file` to check operations against")
	fs.StringVar(&o.Oracle, "oracle", "", "what is expected, as a CSV `file` (default: the shipped ones)")
	fs.Uint64Var(&o.Seed, "seed", 0, "seed of the made-up values (default: a random one)")
	fs.BoolVar(&o.Outage, "outage", false, "send all calls again while the API is down, before credentials are looked for")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), "Sends every operation of the API through a running build and compares the entries with an oracle.\n\n"+
			"  go run ./bench/replay\n  go run ./bench/replay -description management_v1_openapi.json -routes platform_routes.csv -outage\n\n")
		fs.PrintDefaults()
	}
	_ = fs.Parse(os.Args[1:]) // exits by itself
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	res, err := replay(ctx, o, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "replay:", err)
	}
	if err != nil || !res.ok() {
		stop()
		os.Exit(1)
	}
}

func replay(ctx context.Context, o options, w io.Writer) (res result, err error) {
	ops, err := operations(o)
	if err != nil {
		return res, err
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	m := maker{rand.New(rand.NewPCG(o.Seed, 1))}
	calls := makeCalls(ops, m)
	if err := checkShapes(o, calls); err != nil {
		return res, err
	}

	setup, dir, err := o.Complete(ctx, "replay")
	if err != nil {
		return res, err
	}
	defer func() {
		if o.Keep || err != nil || !res.ok() {
			fmt.Fprintln(os.Stderr, "replay: the evidence is in", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	api, stopAPI, err := rig.Serve(http.HandlerFunc(stub))
	if err != nil {
		return res, err
	}
	defer stopAPI()
	// The binary stays out of the directory that is searched for leaks.
	site, err := rig.NewSite(setup, filepath.Join(dir, "site"), api)
	if err != nil {
		return res, err
	}
	afterwards := func(*rig.Conn) error { return nil }
	if o.Outage {
		afterwards = func(conn *rig.Conn) error {
			stopAPI()
			return outage(conn, calls)
		}
	}
	entries, err := record(ctx, site, calls, afterwards)
	if err != nil {
		return res, err
	}
	res, wrong := compare(calls, entries)
	found, err := leaks(calls, site.Dir)
	if err != nil {
		return res, err
	}
	res.Leaks = len(found)
	printTable(w, append(wrong, found...))
	fmt.Fprintf(w, "seed: %d\n", o.Seed)
	fmt.Fprintf(w, "exact: %d of %d\n", res.Exact, res.Operations)
	return res, rig.PrintJSON(w, res)
}

func outage(conn *rig.Conn, calls []call) error {
	for i := range calls {
		if err := calls[i].sendInVain(conn); err != nil {
			return err
		}
	}
	return nil
}

// record sends the calls to one life of the site and exports what it kept.
// What is done afterwards is not in the export.
func record(ctx context.Context, site *rig.Site, calls []call, afterwards func(*rig.Conn) error) ([]rig.Entry, error) {
	p, err := site.Start(ctx)
	if err != nil {
		return nil, err
	}
	defer p.Kill()
	if err := p.Ready(ctx, 20*time.Second); err != nil {
		return nil, err
	}
	conn, err := rig.Dial(site.Addr)
	if err != nil {
		return nil, fmt.Errorf("connecting to the build: %w", err)
	}
	defer conn.Close()
	bar := rig.NewProgress("operations")
	for i := range calls {
		if err := calls[i].send(conn); err != nil {
			return nil, err
		}
		bar.Step(i+1, len(calls), calls[i].Template)
	}
	if _, err := site.Drain(ctx, 30*time.Second); err != nil {
		return nil, err
	}
	entries, err := site.Export(ctx, "export")
	if err != nil {
		return nil, err
	}
	if err := afterwards(conn); err != nil {
		return nil, err
	}
	return entries, p.Stop(20 * time.Second)
}

func operations(o options) ([]operation, error) {
	if o.Oracle == "" {
		return shippedOracle()
	}
	f, err := os.Open(o.Oracle)
	if err != nil {
		return nil, fmt.Errorf("reading the oracle: %w", err)
	}
	defer f.Close()
	return readOracle(f)
}

// checkShapes holds the oracle and the made-up values against the real
// descriptions, as far as they are given.
func checkShapes(o options, calls []call) error {
	var management, ofDashboard []operation
	for _, c := range calls {
		if strings.HasPrefix(c.Template, dashboard) {
			ofDashboard = append(ofDashboard, c.operation)
		} else {
			management = append(management, c.operation)
		}
	}
	if o.Routes != "" {
		d, err := readRoutes(o.Routes)
		if err != nil {
			return err
		}
		if err := d.agree(ofDashboard); err != nil {
			return err
		}
	}
	if o.Description == "" {
		return nil
	}
	d, err := readDescription(o.Description)
	if err != nil {
		return err
	}
	if err := d.agree(management); err != nil {
		return err
	}
	for _, c := range calls {
		for name, v := range c.Params {
			if err := d.Shapes[c.key()][name].fits(v); err != nil {
				return fmt.Errorf("making up {%s} of %s: %w", name, c.key(), err)
			}
		}
	}
	return nil
}

func printTable(w io.Writer, wrong []mismatch) {
	if len(wrong) == 0 {
		return
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "CALL\tFIELD\tWANT\tGOT")
	for _, m := range wrong {
		fmt.Fprintf(tw, "%s\t%s\t%q\t%q\n", m.Call, m.Field, m.Want, m.Got)
	}
	_ = tw.Flush()
}
