package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
)

func drainCommand() *cobra.Command {
	var p place
	var wait bool
	var quiet, timeout time.Duration
	cmd := &cobra.Command{
		Use:   "drain [--wait [--quiet <duration>]] [--timeout <duration>]",
		Short: "Says whether the stores have everything, and waits until they do",
		Long: `
Says whether every store of the configuration has all entries that were recorded
before the command began. With --wait it waits for that. Exits with 1 if something
is left.

Nothing is lost without it: what is not delivered stays in the buffer. It is for
machines whose disk goes away with them: run it before the stop, when no more
calls arrive. With --quiet it also waits for that: until, for so long, no call has
arrived and none that may change something was under way, as after a load balancer
has been told to send no more.`,
		Example: "  caddy audit drain --wait --timeout 5m && caddy stop --config Caddyfile\n  caddy audit drain --wait --quiet 5s --timeout 1m",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, timeout)
				defer cancel()
			}
			if quiet < 0 || quiet > 0 && !wait {
				return fmt.Errorf("draining: --quiet %s: it must be above zero, and needs --wait", quiet)
			}
			return drained(ctx, &p, wait, quiet, cmd.OutOrStdout())
		},
	}
	p.flags(cmd)
	cmd.Flags().BoolVar(&wait, "wait", false, "Wait until the stores have everything")
	cmd.Flags().DurationVar(&quiet, "quiet", 0, "Before that, wait until no call has arrived for this long (default: do not)")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "Wait no longer than this (default: until interrupted)")
	return cmd
}

// waitPoll is how often a command looks whether what it waits for has come.
const waitPoll = 100 * time.Millisecond

// drained waits until the stores have what is there now, or with quiet, what is there
// once no call has arrived for that long.
func drained(ctx context.Context, p *place, wait bool, quiet time.Duration, w io.Writer) error {
	first, err := p.status(context.WithoutCancel(ctx))
	if err == nil && quiet > 0 {
		first, err = settled(ctx, p, first, quiet)
	}
	if err != nil {
		return err
	}
	bar := newBar("draining")
	defer bar.end()
	begun := leftOf(&first, first.Head)
	for s := first; ; {
		left := leftOf(&s, first.Head)
		switch {
		case left == 0:
			_, err := fmt.Fprintf(w, "the stores have every entry up to %s\n", humanize.Comma(int64(first.Head)))
			return err
		case !s.Live:
			return fmt.Errorf("draining: %s entries wait and the server is not running: start it, or run \"caddy audit deliver %s\"", humanize.Comma(int64(left)), s.Directory)
		case !wait:
			return fmt.Errorf("draining: %s entries wait: --wait waits for them", humanize.Comma(int64(left)))
		}
		bar.set(int64(begun-left), int64(begun))
		select {
		case <-ctx.Done():
			return fmt.Errorf("draining: %s entries are left, and stay in the buffer: %s", humanize.Comma(int64(left)), whyLeft(&s))
		case <-time.After(waitPoll):
		}
		next, err := p.status(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil {
			s = next
		}
	}
}

// settled waits until no call has arrived for that long, and returns the status of
// then. A server that ends meanwhile gets no calls either.
func settled(ctx context.Context, p *place, s operator.Status, quiet time.Duration) (operator.Status, error) {
	for since := time.Now(); s.Live; {
		select {
		case <-ctx.Done():
			return s, unsettled(s)
		case <-time.After(waitPoll):
		}
		next, err := p.status(ctx)
		if ctx.Err() != nil {
			return s, unsettled(s)
		}
		if err != nil {
			return s, err
		}
		// What is excluded are probes, which go on.
		arrived := next.Calls.Seen-next.Calls.Excluded != s.Calls.Seen-s.Calls.Excluded
		s = next
		switch {
		case arrived || s.Calls.Open > 0:
			since = time.Now()
		case time.Since(since) >= quiet:
			return s, nil
		}
	}
	return s, nil
}

func unsettled(s operator.Status) error {
	return fmt.Errorf("draining: calls still arrive, or have not ended (%d are open): send this server no more of them, or give --timeout more", s.Calls.Open)
}

// leftOf is how many entries up to a head the slowest configured store has not taken.
func leftOf(s *operator.Status, head uint64) (n uint64) {
	for _, st := range s.Stores {
		if st.Configured && st.Position.Position < head {
			n = max(n, head-st.Position.Position)
		}
	}
	return n
}

func whyLeft(s *operator.Status) string {
	for _, st := range s.Stores {
		if st.FailingSince != nil {
			return fmt.Sprintf("store %s is failing: %s", st.Name, st.LastError)
		}
	}
	return "time was up"
}

func deliverCommand() *cobra.Command {
	var p place
	cmd := &cobra.Command{
		Use:   "deliver <directory>",
		Short: "Delivers the buffer of a machine or volume that is gone",
		Long: `
Takes over a buffer whose server is gone, for instance from its volume or from a
copy of its directory, and delivers what waits in it to the stores of the
configuration. The entries keep their own origin, and calls that had no end become
unknown. It ends when the stores have everything; until then it can be interrupted
and run again. A live server may go on beside it, with its own buffer.

The directory must not be in use anywhere else: what two machines deliver from the
same buffer is not told apart.`,
		Example: "  caddy audit deliver /mnt/old-volume/audit-data/buffer",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			app, done, err := p.offline(ctx)
			if err != nil {
				return err
			}
			defer done()
			bar := newBar("delivering")
			defer bar.end()
			return app.Deliver(ctx, args[0], cmd.OutOrStdout(), bar.set)
		},
	}
	p.configFlags(cmd)
	return cmd
}

func passCommand() *cobra.Command {
	var p place
	var d time.Duration
	var reason string
	var end bool
	cmd := &cobra.Command{
		Use:   "pass --for <duration> --reason <text>",
		Short: "Lets calls through for a time that cannot be recorded: break glass",
		Long: `
Lets calls through for a time although they cannot be recorded, whatever on_fault
says: for when the buffer's disk is broken and the API must go on. What can be
recorded still is. It ends by itself, outlives a restart if the disk takes the
note, and is an entry of the log, with its reason. How many calls passed is an
audit.gap entry, as soon as one can be recorded.`,
		Example: "  caddy audit pass --for 15m --reason \"volume is read-only, ticket 4711\"\n  caddy audit pass --end",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if end == (d > 0) {
				return errors.New("letting calls pass: give either --for and --reason, or --end")
			}
			order, err := json.Marshal(operator.PassOrder{Seconds: d.Seconds(), Reason: reason})
			if err != nil {
				return err
			}
			body, err := p.ask(cmd.Context(), http.MethodPost, operator.PassPath, nil, bytes.NewReader(order))
			if err != nil {
				return err
			}
			answer, err := answerIn[operator.PassAnswer](body)
			if err != nil {
				return err
			}
			if answer.Until.IsZero() {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "calls that cannot be recorded are again handled as on_fault says")
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "calls that cannot be recorded pass until %s\n", answer.Until.Format(time.RFC3339))
			return err
		},
	}
	p.flags(cmd)
	cmd.Flags().DurationVar(&d, "for", 0, "For how long, at most 24h")
	cmd.Flags().StringVar(&reason, "reason", "", "Why; the audit log keeps it")
	cmd.Flags().BoolVar(&end, "end", false, "End it now")
	return cmd
}
