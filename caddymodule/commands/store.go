package commands

import (
	"context"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stores"
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
			all := app.Retention().Stores
			i := all.Index(args[0])
			if i < 0 {
				return fmt.Errorf("checking store %q: the configuration has no store of that name: it has %s", args[0], strings.Join(all.Names(), ", "))
			}
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			report := all[i].Check(ctx)
			out := cmd.OutOrStdout()
			if asJSON {
				err = printJSON(out, report)
			} else {
				_, err = io.WriteString(out, storeText(&report))
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

// storeText is a report for people.
func storeText(r *stores.Report) string {
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
