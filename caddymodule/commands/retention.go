package commands

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
)

func retentionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retention",
		Short: "Says how long entries are kept, what has gone, and holds what must stay",
		Long: `
Says how long entries are kept and why, what is about to expire and what has gone, and
holds entries that must stay whatever their time is, as for a lawsuit.`,
		Example: "  caddy audit retention preview --in 30d\n  caddy audit retention hold set --organization acme --reason \"case 4711\"",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(retentionExplainCommand(), retentionPreviewCommand(), retentionReceiptsCommand(), retentionHoldCommand())
	return cmd
}

// ledgerFlags are those of the commands that read one store.
func (p *place) ledgerFlags(cmd *cobra.Command, store *string, asJSON *bool) {
	p.flags(cmd)
	cmd.Flags().StringVar(store, "store", "", "The store's name (default: the first that enforces retention itself)")
	cmd.Flags().BoolVar(asJSON, "json", false, "Print JSON")
}

// fromServerOr asks the running server, or computes the same from the configuration and
// the store itself.
func fromServerOr[T any](ctx context.Context, p *place, path string, query url.Values, local func(*operator.Retention) (T, error)) (answer T, err error) {
	body, err := p.get(ctx, path, query)
	if errors.Is(err, errDown) {
		app, done, offErr := p.offline(ctx)
		if offErr != nil {
			return answer, errors.Join(err, offErr)
		}
		defer done()
		return local(app.Retention())
	}
	if err != nil {
		return answer, err
	}
	return answerIn[T](body)
}

// answerIn reads what a server has answered, and closes it.
func answerIn[T any](body io.ReadCloser) (answer T, err error) {
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&answer); err != nil {
		return answer, fmt.Errorf("reading the server's answer: %w", err)
	}
	return answer, nil
}

func retentionExplainCommand() *cobra.Command {
	var p place
	var store string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain [--json] <entry>",
		Short: "Says until when an entry is kept, and why",
		Long: `
Says until when an entry is kept and why: its class, its organization's plan, what the
terms are now, which holds keep it, and until when its organization may read it. An
entry is named by its id, which the header Audit-Id of its call says. Of one that is
not there it says whether it has expired.`,
		Example: "  caddy audit retention explain 0198c0de-0000-7000-8000-000000000001",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			x, err := fromServerOr(cmd.Context(), &p, operator.RetentionPath, url.Values{"id": args, "store": {store}}, func(r *operator.Retention) (operator.Explanation, error) {
				return r.Explain(cmd.Context(), store, args[0], time.Now())
			})
			if err != nil {
				return fmt.Errorf("explaining entry %q: %w", args[0], err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), x)
			}
			return printExplanation(cmd.OutOrStdout(), &x)
		},
	}
	p.ledgerFlags(cmd, &store, &asJSON)
	return cmd
}

const dayForm = "2006-01-02 15:04 MST"

func printExplanation(w io.Writer, x *operator.Explanation) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-13s %s\n", name, display.Printable(fmt.Sprintf(format, args...)))
	}
	line("entry", "%s, in store %s", x.ID, x.Store)
	line("arrived", "%s", x.Arrived.UTC().Format(dayForm))
	if x.Found {
		e, err := audit.Decode(x.Entry)
		if err != nil {
			return err
		}
		line("action", "%s", cmp.Or(e.Action.Code, e.Action.Method+" "+e.Action.Route))
		if org := strings.TrimSpace(e.OrganizationSlug + " " + e.OrganizationID); org != "" {
			line("organization", "%s (membership %s)", org, cmp.Or(string(e.Membership), "unknown"))
		}
		if x.Tag != nil {
			line("class", "%s, which keeps %s", x.Tag.Class, cmp.Or(x.Term, "nothing new: it is not in the configuration"))
			if x.Tag.Plan != "" {
				line("plan", "%s", x.Tag.Plan)
			}
		}
		if x.KeptUntil != nil {
			line("kept until", "%s", x.KeptUntil.UTC().Format(dayForm))
		} else {
			line("kept until", "forever")
		}
		for _, h := range x.Holds {
			line("held", "by %s since %s: %s", h.ID, h.Since.UTC().Format(dayForm), h.Reason)
		}
		switch {
		case e.OrganizationSlug+e.OrganizationID == "":
		case !x.Readable:
			line("readable", "not by its organization now, as its plan says")
		case x.ReadableUntil != nil:
			line("readable", "by its organization until %s", x.ReadableUntil.UTC().Format(dayForm))
		default:
			line("readable", "by its organization for as long as it is kept")
		}
	}
	for _, r := range x.Receipts {
		line("receipt", "%s", (*receiptLine)(&r).text())
	}
	line("why", "%s", x.Why)
	_, err := io.WriteString(w, b.String())
	return err
}

// receiptLine is a receipt as it is printed.
type receiptLine forwarder.Receipt

func (r *receiptLine) text() string {
	return fmt.Sprintf("%d entries of class %s (%s) between %d and %d of %s, arrived %s to %s, deleted %s",
		r.Entries, r.Class, cmp.Or(r.Rule, "no term any more"), r.First, r.Last, r.Instance,
		time.UnixMicro(r.FirstArrival).UTC().Format(dayForm), time.UnixMicro(r.LastArrival).UTC().Format(dayForm), time.UnixMicro(r.To).UTC().Format(dayForm))
}

func retentionPreviewCommand() *cobra.Command {
	var p place
	var store, in string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "preview [--json] [--in <term>]",
		Short: "Shows each class, and how much of it expires until then",
		Long: `
Shows the retention classes, what each keeps, how many entries it has, and how many of
them will have expired by a time: now, unless --in says otherwise. Deletes nothing.`,
		Example: "  caddy audit retention preview --in 30d\n  caddy audit retention preview --in 1y --json | jq '.classes[] | {class, expiring}'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			before := time.Now()
			if in != "" {
				term, err := audit.ParseTerm(in)
				if err != nil || term.IsForever() {
					return fmt.Errorf("previewing what expires: --in %q: write days, months or years as in 30d", in)
				}
				before = term.End(before)
			}
			v, err := fromServerOr(cmd.Context(), &p, operator.RetentionPath, url.Values{"before": {before.UTC().Format(time.RFC3339)}, "store": {store}}, func(r *operator.Retention) (operator.Preview, error) {
				return r.Preview(cmd.Context(), store, before)
			})
			if err != nil {
				return fmt.Errorf("previewing what expires: %w", err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), v)
			}
			return printPreview(cmd.OutOrStdout(), &v)
		},
	}
	p.ledgerFlags(cmd, &store, &asJSON)
	cmd.Flags().StringVar(&in, "in", "", "Look ahead by this time, as in 30d or 6mo")
	return cmd
}

func printPreview(w io.Writer, v *operator.Preview) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "CLASS\tKEEPS\tENTRIES\tSIZE\tGONE BY %s\tSIZE\tHELD\n", v.Before.UTC().Format(dayForm))
	for _, c := range v.Classes {
		name := cmp.Or(c.Class, "(not stamped yet)")
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%d\t%s\t%d\n", display.Printable(name), cmp.Or(c.Term, "-"), c.Entries, size(c.Bytes), c.Expiring, size(c.ExpiringBytes), c.ExpiringHeld)
	}
	err := table.Flush()
	for _, h := range v.Holds {
		fmt.Fprintf(w, "hold %s: %s\n", display.Printable(h.ID), holdText(h))
	}
	for _, name := range v.NotKept {
		fmt.Fprintf(w, "store %s does not enforce retention itself: see docs/retention.md\n", display.Printable(name))
	}
	return err
}

func size(n int64) string { return humanize.IBytes(uint64(max(0, n))) }

func retentionReceiptsCommand() *cobra.Command {
	var p place
	var store string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "receipts [--json]",
		Short:   "Lists what has expired and was deleted",
		Long:    "\nLists the receipts of what has expired and was deleted, newest first: how many entries\nof which class, between which sequences, when, and by which term. With --json, one\nobject a line.",
		Example: "  caddy audit retention receipts\n  caddy audit retention receipts --json | jq -s 'map(.entries) | add'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, out := 0, cmd.OutOrStdout()
			err := p.receipts(cmd.Context(), store, func(line []byte) error {
				n++
				if asJSON {
					_, err := out.Write(append(line, '\n'))
					return err
				}
				var r receiptLine
				if err := json.Unmarshal(line, &r); err != nil {
					return fmt.Errorf("reading the server's answer: %w", err)
				}
				_, err := fmt.Fprintln(out, display.Printable(r.text()))
				return err
			})
			if err == nil && n == 0 && !asJSON {
				_, err = fmt.Fprintln(out, "nothing has expired yet")
			}
			return err
		},
	}
	p.ledgerFlags(cmd, &store, &asJSON)
	return cmd
}

func (p *place) receipts(ctx context.Context, store string, do func([]byte) error) error {
	body, err := p.get(ctx, operator.RetentionPath, url.Values{"receipts": {"1"}, "store": {store}})
	if errors.Is(err, errDown) {
		app, done, offErr := p.offline(ctx)
		if offErr != nil {
			return errors.Join(err, offErr)
		}
		defer done()
		l, _, err := app.Retention().Stores.OpenLedger(ctx, store)
		if err != nil {
			return err
		}
		return errors.Join(operator.EachReceipt(ctx, l, do), l.Close())
	}
	if err != nil {
		return err
	}
	defer body.Close()
	return eachLine(body, do)
}

func retentionHoldCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hold",
		Short: "Keeps entries that must stay, whatever their class says",
		Long: `
Keeps entries of an organization, an actor or a time from being deleted, whatever their
class says, until the hold is released. Without --to it keeps what will come, too. Setting
and releasing a hold are entries themselves. Stores that enforce retention by other means
than this server's, such as a bucket's lifecycle, do not know of it.`,
		Example: "  caddy audit retention hold set --organization acme --reason \"case 4711\"\n  caddy audit retention hold list",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(holdSetCommand(), holdReleaseCommand(), holdListCommand())
	return cmd
}

func holdSetCommand() *cobra.Command {
	var p place
	var o operator.HoldOrder
	var from, to string
	cmd := &cobra.Command{
		Use:     "set --reason <text> [--organization <id or slug>] [--actor <user, email, token hash or app>] [--from <time>] [--to <time>]",
		Short:   "Sets a hold",
		Example: "  caddy audit retention hold set --organization acme --reason \"case 4711\"\n  caddy audit retention hold set --actor eve@example.com --from 2026-01-01T00:00:00Z --reason \"incident 12\"",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Do = operator.DoSet
			for _, t := range []struct {
				name, value string
				to          *time.Time
			}{{"from", from, &o.Hold.From}, {"to", to, &o.Hold.To}} {
				if t.value == "" {
					continue
				}
				var err error
				if *t.to, err = time.Parse(time.RFC3339, t.value); err != nil {
					return fmt.Errorf("setting a hold: --%s %q is not a time: write it as in 2026-01-31T00:00:00Z", t.name, t.value)
				}
			}
			answer, err := p.orderHold(cmd.Context(), &o)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			_, err = fmt.Fprintf(out, "hold %s is set in %s\n", answer.ID, strings.Join(answer.Stores, ", "))
			if len(answer.NotHeld) > 0 {
				fmt.Fprintf(out, "NOT in %s: these do not enforce retention themselves: see docs/retention.md\n", strings.Join(answer.NotHeld, ", "))
			}
			return err
		},
	}
	p.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.Hold.ID, "id", "", "The hold's name (default: one is made)")
	f.StringVar(&o.Hold.Organization, "organization", "", "Hold the entries of this organization, by id or slug")
	f.StringVar(&o.Hold.Actor, "actor", "", "Hold the entries of this user id, email address, token hash or OAuth app")
	f.StringVar(&from, "from", "", "Hold what arrived from this time on, in RFC 3339")
	f.StringVar(&to, "to", "", "Hold what arrived before this time, in RFC 3339 (default: also what will come)")
	f.StringVar(&o.Reason, "reason", "", "Why; the audit log keeps it")
	return cmd
}

func holdReleaseCommand() *cobra.Command {
	var p place
	var o operator.HoldOrder
	cmd := &cobra.Command{
		Use:     "release --reason <text> <hold>",
		Short:   "Releases a hold: what no other one keeps expires as its class says",
		Example: "  caddy audit retention hold release hold-1a2b3c4d --reason \"case 4711 is closed\"",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Do, o.Hold.ID = operator.DoRelease, args[0]
			answer, err := p.orderHold(cmd.Context(), &o)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "hold %s is released in %s\n", answer.ID, strings.Join(answer.Stores, ", "))
			return err
		},
	}
	p.flags(cmd)
	cmd.Flags().StringVar(&o.Reason, "reason", "", "Why; the audit log keeps it")
	return cmd
}

// orderHold gives an order to the running server.
func (p *place) orderHold(ctx context.Context, o *operator.HoldOrder) (answer operator.HoldAnswer, err error) {
	if err := o.Check(); err != nil {
		return answer, fmt.Errorf("holding entries: %w", err)
	}
	b, err := json.Marshal(o)
	if err != nil {
		return answer, err
	}
	body, err := p.ask(ctx, http.MethodPost, operator.HoldPath, nil, bytes.NewReader(b))
	if errors.Is(err, errDown) {
		return answer, fmt.Errorf("holding entries: %w: start it, since a hold is recorded and must keep what comes meanwhile", err)
	}
	if err != nil {
		return answer, err
	}
	return answerIn[operator.HoldAnswer](body)
}

func holdListCommand() *cobra.Command {
	var p place
	var store string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list [--json]",
		Short:   "Lists the holds that are in force",
		Example: "  caddy audit retention hold list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := fromServerOr(cmd.Context(), &p, operator.RetentionPath, url.Values{"store": {store}}, func(r *operator.Retention) (operator.Preview, error) {
				return r.Preview(cmd.Context(), store, time.Now())
			})
			if err != nil {
				return fmt.Errorf("listing holds: %w", err)
			}
			out := cmd.OutOrStdout()
			if asJSON {
				return printJSON(out, v.Holds)
			}
			if len(v.Holds) == 0 {
				_, err = fmt.Fprintln(out, "nothing is held")
			}
			for _, h := range v.Holds {
				fmt.Fprintf(out, "%s: %s\n", display.Printable(h.ID), holdText(h))
			}
			return err
		},
	}
	p.ledgerFlags(cmd, &store, &asJSON)
	return cmd
}

func holdText(h forwarder.Hold) string {
	var of []string
	if h.Organization != "" {
		of = append(of, "organization "+h.Organization)
	}
	if h.Actor != "" {
		of = append(of, "actor "+h.Actor)
	}
	if !h.From.IsZero() {
		of = append(of, "from "+h.From.UTC().Format(time.RFC3339))
	}
	if !h.To.IsZero() {
		of = append(of, "to "+h.To.UTC().Format(time.RFC3339))
	}
	return display.Printable(fmt.Sprintf("%s, since %s: %s", strings.Join(of, ", "), h.Since.UTC().Format(dayForm), h.Reason))
}

func verifyCommand() *cobra.Command {
	var p place
	var store string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [--json] [--store <name>]",
		Short: "Tells what has expired from what is lost",
		Long: `
Goes through a store and says whether it still has all that it ever took, but for what
has expired. An entry that is gone without a receipt is lost: somebody has deleted it.
Exits with 1 then, and also if something never arrived that should have.`,
		Example: "  caddy audit verify\n  caddy audit verify --store postgres --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := fromServerOr(cmd.Context(), &p, operator.VerifyPath, url.Values{"store": {store}}, func(r *operator.Retention) (operator.Verification, error) {
				return operator.Verify(cmd.Context(), r.Stores, store)
			})
			if err != nil {
				return fmt.Errorf("verifying a store: %w", err)
			}
			if asJSON {
				if err := printJSON(cmd.OutOrStdout(), v); err != nil {
					return err
				}
			} else {
				printVerification(cmd.OutOrStdout(), &v)
			}
			if !v.OK {
				return fmt.Errorf("verifying store %q: something is lost or missing", v.Store)
			}
			return nil
		},
	}
	p.ledgerFlags(cmd, &store, &asJSON)
	return cmd
}

// printVerification is it for people.
func printVerification(w io.Writer, v *operator.Verification) {
	fmt.Fprintf(w, "%s has received %d sequences\n", v.Store, v.Received)
	for _, c := range v.Expired {
		fmt.Fprintf(w, "  expired  %d of class %s, with receipts\n", c.Entries, display.Printable(c.Class))
	}
	for _, r := range v.Missing {
		why := "never arrived"
		switch {
		case r.First == 1:
			why = "were recorded before the store was there, or never arrived"
		case v.Partial:
			why = "never arrived: filtered, detached or not asked for, as the configuration says"
		}
		fmt.Fprintf(w, "  missing  %d to %d of %s: %s\n", r.First, r.Last, display.Printable(r.Instance), why)
	}
	for _, r := range v.Lost {
		fmt.Fprintf(w, "  LOST     %d to %d of %s: they were there, and are gone without a receipt\n", r.First, r.Last, display.Printable(r.Instance))
	}
	if v.OK {
		fmt.Fprintln(w, "nothing is lost")
	}
}
