package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
)

func quarantineCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "quarantine",
		Short: "Looks after entries that a store will never take",
		Long: `
Looks after entries that a store has refused for what is in them, while it accepted
others. They are kept in the buffer's directory until they are delivered after all,
or dropped by an operator.`,
		Example: "  caddy audit quarantine list\n  caddy audit quarantine retry siem --all",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(quarantineListCommand(), quarantineShowCommand(), quarantineRetryCommand(), quarantineDropCommand())
	return cmd
}

func quarantineListCommand() *cobra.Command {
	var p place
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list [--json] [<store>]",
		Short:   "Lists what is in quarantine, and why",
		Long:    "\nLists what is in quarantine, of all stores or of one, and why. With --json, one object\na line, with the entries.",
		Example: "  caddy audit quarantine list siem\n  caddy audit quarantine list --json | jq .entry",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			store := append(args, "")[0]
			out := cmd.OutOrStdout()
			if asJSON {
				enc := json.NewEncoder(out)
				return p.quarantined(cmd.Context(), store, 0, func(l operator.QuarantinedLine) error { return enc.Encode(l) })
			}
			return listQuarantined(cmd.Context(), &p, store, out)
		},
	}
	p.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON, one object a line")
	return cmd
}

func listQuarantined(ctx context.Context, p *place, store string, w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	n := 0
	err := p.quarantined(ctx, store, 0, func(l operator.QuarantinedLine) error {
		if n++; n == 1 {
			fmt.Fprintln(table, "STORE\tSEQUENCE\tSINCE\tENTRY\tREASON")
		}
		what := "not an entry"
		if e, err := audit.Decode(l.Entry); err == nil {
			what = e.ID + " " + e.Action.Code
		}
		_, err := fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\n", display.Printable(l.Store), l.Sequence, humanize.Time(l.At), display.Printable(what), display.Printable(l.Reason))
		return err
	})
	if err = errors.Join(err, table.Flush()); err == nil && n == 0 {
		_, err = fmt.Fprintln(w, "nothing is in quarantine")
	}
	return err
}

// quarantined asks the running server, or reads the files.
func (p *place) quarantined(ctx context.Context, store string, sequence uint64, do func(operator.QuarantinedLine) error) error {
	query := url.Values{}
	if store != "" {
		query.Set("store", store)
	}
	if sequence > 0 {
		query.Set("sequence", strconv.FormatUint(sequence, 10))
	}
	body, err := p.get(ctx, operator.QuarantinePath, query)
	if errors.Is(err, errDown) {
		o, offErr := p.openOffline(ctx, nil)
		if offErr != nil {
			return errors.Join(err, offErr)
		}
		return errors.Join(operator.EachQuarantined(o, store, sequence, do), o.Close())
	}
	if err != nil {
		return err
	}
	defer body.Close()
	return eachLine(body, func(line []byte) error {
		var l operator.QuarantinedLine
		if err := json.Unmarshal(line, &l); err != nil {
			return fmt.Errorf("reading the server's answer: %w", err)
		}
		return do(l)
	})
}

func quarantineShowCommand() *cobra.Command {
	var p place
	cmd := &cobra.Command{
		Use:     "show <store> <sequence>",
		Short:   "Shows an entry in quarantine whole",
		Example: "  caddy audit quarantine show siem 4711",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := sequences(args[1:])
			if err != nil {
				return err
			}
			found := false
			err = p.quarantined(cmd.Context(), args[0], list[0], func(l operator.QuarantinedLine) error {
				found = true
				return printJSON(cmd.OutOrStdout(), l)
			})
			if err == nil && !found {
				err = fmt.Errorf("showing entry %d of store %q: it is not in quarantine: see caddy audit quarantine list", list[0], args[0])
			}
			return err
		},
	}
	p.flags(cmd)
	return cmd
}

func sequences(args []string) ([]uint64, error) {
	var list []uint64
	for _, arg := range args {
		n, err := strconv.ParseUint(arg, 10, 64)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("%q is not the sequence of an entry: caddy audit quarantine list shows them", arg)
		}
		list = append(list, n)
	}
	return list, nil
}

func quarantineRetryCommand() *cobra.Command {
	return resolveCommand(operator.DoRetry, &cobra.Command{
		Use:   "retry <store> <sequence>... | --all",
		Short: "Tries to deliver entries in quarantine once more",
		Long: `
Tries to deliver entries in quarantine once more: after the store, its schema or its
limits have been mended. What it takes leaves quarantine and counts as delivered.
What it refuses stays. Exits with 1 if any stays.`,
		Example: "  caddy audit quarantine retry siem 4711\n  caddy audit quarantine retry siem --all",
	})
}

func quarantineDropCommand() *cobra.Command {
	return resolveCommand(operator.DoDrop, &cobra.Command{
		Use:   "drop --reason <text> <store> <sequence>... | --all",
		Short: "Gives entries in quarantine up",
		Long: `
Gives entries in quarantine up: the store does not get them. Other stores have them.
An audit.gap entry says which, and the reason.`,
		Example: "  caddy audit quarantine drop siem 4711 --reason \"beyond the size that the SIEM takes, ticket 4711\"",
	})
}

func resolveCommand(do string, cmd *cobra.Command) *cobra.Command {
	var p place
	var all, asJSON bool
	o := operator.QuarantineOrder{Do: do}
	cmd.Args = cobra.MinimumNArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		o.Store = args[0]
		if o.Sequences, err = sequences(args[1:]); err != nil {
			return err
		}
		if all == (len(o.Sequences) > 0) {
			return errors.New("resolving quarantine: give either sequences or --all")
		}
		return resolveQuarantined(cmd.Context(), &p, o, asJSON, cmd.OutOrStdout())
	}
	p.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "All entries of the store, up to 10,000")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON, one object a line")
	if do == operator.DoDrop {
		cmd.Flags().StringVar(&o.Reason, "reason", "", "Why; the audit log keeps it")
	}
	return cmd
}

func resolveQuarantined(ctx context.Context, p *place, o operator.QuarantineOrder, asJSON bool, w io.Writer) error {
	order, err := json.Marshal(o)
	if err != nil {
		return err
	}
	body, err := p.ask(ctx, http.MethodPost, operator.ResolvePath, nil, bytes.NewReader(order))
	if errors.Is(err, errDown) {
		return fmt.Errorf("%w: only a running server resolves quarantine", err)
	}
	if err != nil {
		return err
	}
	defer body.Close()
	bar := newBar("resolving")
	defer bar.end()
	done := map[string]int64{}
	total := int64(0)
	err = eachLine(body, func(line []byte) error {
		var l operator.ResolvedLine
		if err := json.Unmarshal(line, &l); err != nil {
			return fmt.Errorf("reading the server's answer: %w", err)
		}
		done[l.Result]++
		total++
		bar.set(total, max(total, int64(len(o.Sequences))))
		switch {
		case asJSON:
			_, err = fmt.Fprintf(w, "%s\n", line)
		case l.Error != "":
			_, err = fmt.Fprintf(w, "entry %d is kept: %s\n", l.Sequence, display.Printable(l.Error))
		}
		return err
	})
	if err != nil {
		return err
	}
	if !asJSON {
		fmt.Fprintf(w, "%s delivered, %s dropped, %s kept\n",
			humanize.Comma(done["delivered"]), humanize.Comma(done["dropped"]), humanize.Comma(done["kept"]))
	}
	if n := done["kept"]; n > 0 {
		return fmt.Errorf("resolving quarantine: %s of %s entries are kept", humanize.Comma(n), humanize.Comma(total))
	}
	return nil
}
