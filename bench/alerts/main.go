//go:build linux

// Alerts is the outside look at what wakes people: a real Prometheus and a real Alertmanager
// watch builds while each alert's cause is brought about and taken away, and each must
// fire, and end by itself.
package main

import (
	"cmp"
	"context"
	"errors"
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
	"text/tabwriter"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/faultfs"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

type options struct {
	rig.Setup
	Only  string
	Rules string
	Panel string
	// Within is what an alert may take to fire.
	Within time.Duration
}

func main() {
	var o options
	fs := flag.NewFlagSet("alerts", flag.ExitOnError)
	o.Register(fs)
	fs.StringVar(&o.Only, "only", "", "only the stages of these `names`: store, detached, quarantine, locked, disk, ill, process, files, callers (default: all)")
	fs.StringVar(&o.Rules, "rules", "", "the rules `file` (default: the shipped one)")
	fs.StringVar(&o.Panel, "dashboard", "", "the dashboard `file` (default: the shipped one)")
	fs.DurationVar(&o.Within, "within", 150*time.Second, "how `long` an alert may take to fire")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), "Makes each alert fire by its cause before a real Prometheus and Alertmanager, and sees it end.\n"+
			"Needs Linux, root and FUSE.\n\n  sudo go run ./bench/alerts\n  sudo go run ./bench/alerts -only store,ill\n\n")
		fs.PrintDefaults()
	}
	_ = fs.Parse(os.Args[1:]) // exits by itself
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	v, err := alerts(ctx, o, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "alerts:", err)
	}
	if err != nil || !v.Held {
		stop()
		os.Exit(1)
	}
}

func alerts(ctx context.Context, o options, w io.Writer) (v *verdict, err error) {
	v = &verdict{Shown: []shown{}, Failures: []string{}, Unexpected: []string{}, Empty: []string{}, Excused: []string{}, within: o.Within}
	if err := faultfs.Possible(); err != nil {
		return v, err
	}
	acts, stop, err := chosen(o.Only)
	if err != nil {
		return v, err
	}
	defer stop()
	var dir string
	given := o.Caddyfile
	if o.Setup, dir, err = o.Complete(ctx, "alerts"); err != nil {
		return v, err
	}
	defer func() {
		if o.Keep || err != nil || !v.Held {
			fmt.Fprintln(os.Stderr, "alerts: the evidence is in", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	if given != "" {
		return v, errors.New("reading the options: each build here has a Caddyfile of its own: leave -caddyfile out")
	}
	root := filepath.Dir(o.Caddyfile)
	rules, err := os.ReadFile(cmp.Or(o.Rules, filepath.Join(root, "deploy", "prometheus", "rules.yml")))
	if err != nil {
		return v, fmt.Errorf("reading the rules: %w", err)
	}
	dashboard, err := os.ReadFile(cmp.Or(o.Panel, filepath.Join(root, "deploy", "grafana", "dashboard.json")))
	if err != nil {
		return v, fmt.Errorf("reading the dashboard: %w", err)
	}
	began := time.Now()
	if err := o.trial(ctx, v, acts, dir, rules, dashboard); err != nil {
		return v, err
	}
	v.Seconds = seconds(time.Since(began))
	v.Held = len(v.Shown) > 0 && len(v.Failures)+len(v.Unexpected)+len(v.Empty) == 0
	v.report(w)
	return v, rig.PrintJSON(w, v)
}

// chosen are the acts of these names.
func chosen(only string) (acts []act, stop func(), err error) {
	who, stop, err := callers()
	if err != nil {
		return nil, nil, err
	}
	all := []act{illDisk(), locked(), storeDown(), quarantined(), detached(), fullDisk(), process(), files(), who}
	if only == "" {
		return all, stop, nil
	}
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(all, func(a act) bool { return a.plan.name == strings.TrimSpace(name) })
		if i < 0 {
			stop()
			return nil, nil, fmt.Errorf("reading the options: -only %q is no stage", name)
		}
		acts = append(acts, all[i])
	}
	return acts, stop, nil
}

// trial starts everything, lets the acts happen side by side, and looks at the whole.
func (o options) trial(ctx context.Context, v *verdict, acts []act, dir string, rules, dashboard []byte) error {
	scaled, all, err := scaleRules(rules)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var stages []*stage
	defer func() {
		for _, s := range stages {
			s.close()
		}
	}()
	targets := map[string]string{}
	for _, a := range acts {
		s, err := newStage(ctx, o.Setup, dir, a.plan)
		if err != nil {
			return err
		}
		stages = append(stages, s)
		targets[s.name] = s.site.Metrics
	}
	watchDir := filepath.Join(dir, "watch")
	if err := os.Mkdir(watchDir, 0o700); err != nil {
		return err
	}
	began := time.Now()
	w, err := newWatch(ctx, watchDir, scaled, targets)
	if err != nil {
		return err
	}
	defer w.close()
	// So that nothing is unusual before the first scene.
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(3 * scrapeEvery):
	}
	var wg sync.WaitGroup
	for i, a := range acts {
		wg.Go(func() {
			if err := a.happen(ctx, v, w, stages[i]); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	for _, s := range stages {
		if err := v.exposition(ctx, w, s); err != nil {
			return err
		}
	}
	everything := o.Only == ""
	if everything {
		if err := v.expressions(ctx, w, all, dashboard, began); err != nil {
			return err
		}
	}
	if err := v.play(ctx, w, &stage{name: ""}, scene{
		what: "Prometheus has lost all targets", cured: "it has found them again",
		fires: []string{"AuditNotScraped"},
		cause: func(context.Context) error { return w.targets(nil) },
		cure:  func(context.Context) error { return w.targets(targets) },
	}); err != nil {
		return err
	}
	v.unasked(w, stages)
	if everything {
		v.unshown(all)
	}
	return nil
}

// happen plays the scenes of an act.
func (a act) happen(ctx context.Context, v *verdict, w *watch, s *stage) error {
	scenes := a.scenes(s)
	if !a.atOnce {
		for _, sc := range scenes {
			if err := v.play(ctx, w, s, sc); err != nil {
				return err
			}
		}
		return nil
	}
	errs := make([]error, len(scenes))
	var wg sync.WaitGroup
	for i, sc := range scenes {
		wg.Go(func() { errs[i] = v.play(ctx, w, s, sc) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// report is for people.
func (v *verdict) report(w io.Writer) {
	slices.SortFunc(v.Shown, func(a, b shown) int { return strings.Compare(a.Alert+a.Site, b.Alert+b.Site) })
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ALERT\tFIRED AFTER\tCAUSE\tENDED AFTER\tCURE")
	for _, s := range v.Shown {
		fmt.Fprintf(t, "%s\t%.1f s\t%s\t%.1f s\t%s\n", s.Alert, s.FiredSeconds, s.Cause, s.EndedSeconds, s.Cure)
	}
	_ = t.Flush() // to standard output
	for name, list := range map[string][]string{"FAILED": v.Failures, "UNEXPECTED": v.Unexpected, "NO DATA": v.Empty} {
		for _, line := range list {
			fmt.Fprintf(w, "%s: %s\n", name, line)
		}
	}
}
