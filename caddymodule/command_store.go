package caddymodule

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
)

func storeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "store",
		Short:   "Tries a store of the configuration",
		Example: "  caddy audit store check siem",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(storeCheckCommand())
	return cmd
}

func storeCheckCommand() *cobra.Command {
	var p place
	var asJSON bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "check [--json] <name>",
		Short: "Connects to a store and writes a probe to it",
		Long: `
Connects to a store of the configuration, whether a server runs or not, and writes a
probe: an entry with the code audit.probe, under an origin of its own. Says what
failed and what to do about it, and exits with 1 then. Run it before a store is put
into use, with the server's environment and as its user.`,
		Example: "  caddy audit store check siem\n  caddy audit store check postgres --config /etc/caddy/Caddyfile",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			app, done, err := p.offline(ctx)
			if err != nil {
				return err
			}
			defer done()
			i := app.store(args[0])
			if i < 0 {
				return fmt.Errorf("checking store %q: the configuration has no store of that name: it has %s", args[0], strings.Join(app.storeNames(), ", "))
			}
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			report := app.stores[i].check(ctx)
			out := cmd.OutOrStdout()
			if asJSON {
				err = printJSON(out, report)
			} else {
				_, err = io.WriteString(out, report.text())
			}
			if err == nil && !report.OK {
				err = fmt.Errorf("checking store %q: it cannot be used as it is", args[0])
			}
			return err
		},
	}
	p.configFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")
	cmd.Flags().DurationVar(&timeout, "timeout", probeWithin, "Give up after this time")
	return cmd
}

// probeWithin bounds how long a store is tried.
const probeWithin = 30 * time.Second

func (a *App) storeNames() (names []string) {
	for _, n := range a.stores {
		names = append(names, n.name)
	}
	return names
}

// storeReport says what a check of a store has found.
type storeReport struct {
	Name  string                `json:"name"`
	Store forwarder.Description `json:"store"`
	OK    bool                  `json:"ok"`
	// Probe is the id of the entry that was written, empty for a store that can be tried
	// without leaving one.
	Probe string      `json:"probe,omitempty"`
	Steps []storeStep `json:"steps"`
}

type storeStep struct {
	Step    string  `json:"step"`
	Seconds float64 `json:"seconds"`
	Error   string  `json:"error,omitempty"`
}

func (r *storeReport) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s, %s, delivery %s\n", r.Name, r.Store.Kind, display.Printable(r.Store.Location), r.Store.Delivery)
	for _, s := range r.Steps {
		state := "ok"
		if s.Error != "" {
			state = "FAILED: " + display.Printable(s.Error)
		}
		fmt.Fprintf(&b, "  %-8s %s (%.0f ms)\n", s.Step, state, 1000*s.Seconds)
	}
	switch {
	case r.OK && r.Probe != "":
		fmt.Fprintf(&b, "the store took the probe %s\n", r.Probe)
	case r.OK:
		b.WriteString("the store would take entries; no probe was left in it\n")
	}
	return b.String()
}

// step does one and notes how it went.
func (r *storeReport) step(name string, do func() error) bool {
	start := time.Now()
	err := do()
	s := storeStep{Step: name, Seconds: time.Since(start).Seconds()}
	if err != nil {
		s.Error = err.Error()
	}
	r.Steps = append(r.Steps, s)
	return err == nil
}

// check tries the store with a probe.
func (n *store) check(ctx context.Context) (r storeReport) {
	r = storeReport{Name: n.name, Store: n.open.Describe()}
	probe, err := n.probe()
	if err != nil {
		r.step("encode", func() error { return err })
		return r
	}
	if p, ok := n.open.(forwarder.ProbeOpener); ok {
		r.OK = r.step("probe", func() error { return p.Probe(ctx, probe) })
		return r
	}
	r.Probe = probe.Entry.ID
	var s forwarder.Store
	if !r.step("open", func() error { s, err = n.open.Open(ctx, slog.New(slog.DiscardHandler)); return err }) {
		return r
	}
	wrote := r.step("write", func() error {
		err := s.Write(ctx, []forwarder.Record{probe})
		if isRefused(err) {
			return fmt.Errorf("%w: it refuses what is in the probe, which is as simple as an entry can be: look at its schema and limits", err)
		}
		return err
	})
	r.OK = r.step("close", s.Close) && wrote
	return r
}

// probe is an entry of a buffer that does not exist, so that no hole in the numbers of a
// real one comes of it.
func (n *store) probe() (forwarder.Record, error) {
	payload, err := audit.Event(audit.EventProbe, time.Now(), map[string]any{"store": n.name}).Encode()
	if err != nil {
		return forwarder.Record{}, err
	}
	record, err := forwarder.NewRecord(uuid.NewString(), 1, payload)
	if format := n.options().Format; err == nil && format != nil {
		record.JSON, err = format(record.JSON)
	}
	return record, err
}
