package commands

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	terminal "golang.org/x/term"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
)

func statusCommand() *cobra.Command {
	var p place
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [--json]",
		Short: "Shows whether every call and every entry is accounted for",
		Long: `
Shows whether every call and every entry is accounted for, how far each store
is, and what the buffer holds. Exits with 1 if something is not accounted for.`,
		Example: "  caddy audit status --json | jq .conserved",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := p.status(cmd.Context())
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				enc := json.NewEncoder(out)
				enc.SetIndent("", "  ")
				err = enc.Encode(s)
			} else {
				_, err = io.WriteString(out, s.Text())
			}
			if err == nil && !s.Conserved {
				err = errors.New("not everything is accounted for: see the terms above; this is a defect, please report it")
			}
			return err
		},
	}
	p.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")
	return cmd
}

func exportCommand() *cobra.Command {
	var p place
	var format, store, organization, from, to string
	cmd := &cobra.Command{
		Use:   "export [--format ndjson] [--store <name>] [--organization <slug>] [--from <time>] [--to <time>]",
		Short: "Prints every stored entry",
		Long: `
Prints the stored entries, oldest first, each in its highest revision, one JSON
object a line. Entries that no store has yet are not printed: see status.

They come from the first store of the configuration that can be read quickly, through
the server if it runs. With --store they come from that one, which this command reads
itself, with the server's environment and as its user. From an archive such as s3 it
takes as long as reading all of it between --from and --to, and as much room in the
directory for temporary files as that has. What is damaged there is named at the end,
after all else, and the exit status is 1.`,
		Example: "  caddy audit export --format ndjson --from 2026-01-01T00:00:00Z > audit.ndjson\n" +
			"  caddy audit export --store s3 --from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00Z > january.ndjson",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "ndjson" {
				return fmt.Errorf("--format %q: this version knows only ndjson", format)
			}
			values := url.Values{}
			for name, v := range map[string]string{"organization": organization, "from": from, "to": to} {
				if v != "" {
					values.Set(name, v)
				}
			}
			q, err := operator.ParseQuery(values.Get)
			if err != nil {
				return err
			}
			return export(cmd.Context(), &p, store, q, values, cmd.OutOrStdout())
		},
	}
	p.flags(cmd)
	cmd.Flags().StringVar(&format, "format", "ndjson", "The format: ndjson")
	cmd.Flags().StringVar(&store, "store", "", "Only what this store of the configuration has")
	cmd.Flags().StringVar(&organization, "organization", "", "Only this organization's slug")
	cmd.Flags().StringVar(&from, "from", "", "Only calls that arrived at or after this time")
	cmd.Flags().StringVar(&to, "to", "", "Only calls that arrived before this time")
	return cmd
}

// export prints what a store has, the first that is readable if none is named.
func export(ctx context.Context, p *place, store string, q forwarder.Query, values url.Values, w io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM) // so that a spool is removed
	defer stop()
	progress := newProgress(w)
	out := bufio.NewWriterSize(w, 64<<10)
	line := func(doc []byte) error {
		progress.add()
		_, _ = out.Write(doc)
		return out.WriteByte('\n')
	}
	err := errDown
	if store == "" {
		var body io.ReadCloser
		if body, err = p.get(ctx, operator.ExportPath, values); err == nil {
			defer body.Close()
			err = eachLine(body, line)
		}
	}
	if errors.Is(err, errDown) {
		err = stored(ctx, p, store, q, line)
	}
	// What came before an error is printed, too.
	if flushed := out.Flush(); err == nil && flushed != nil {
		err = fmt.Errorf("writing the export: %w", flushed)
	}
	if err != nil {
		return err
	}
	progress.done()
	return nil
}

// stored reads a store itself: because the server is not running, or it was named.
func stored(ctx context.Context, p *place, store string, q forwarder.Query, line func([]byte) error) error {
	app, done, err := p.offline(ctx)
	if err != nil {
		return err
	}
	defer done()
	reader, err := app.Retention().Stores.OpenNamed(ctx, store)
	if err != nil {
		return err
	}
	defer reader.Close()
	for doc, err := range reader.Read(ctx, q) {
		if err == nil {
			err = line(doc)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func eachLine(r io.Reader, line func([]byte) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		doc, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(doc) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the server's answer: it ended early: %w", err)
		}
		if err := line(doc[:len(doc)-1]); err != nil {
			return err
		}
	}
}

// progress counts on standard error while a person waits there for output
// that goes elsewhere.
type progress struct {
	show bool
	n    int64
	next time.Time
}

func newProgress(w io.Writer) *progress {
	f, isFile := w.(*os.File)
	return &progress{show: terminal.IsTerminal(int(os.Stderr.Fd())) && isFile && !terminal.IsTerminal(int(f.Fd()))}
}

func (p *progress) add() {
	if p.n++; p.show && p.n%1000 == 0 && time.Now().After(p.next) {
		p.next = time.Now().Add(200 * time.Millisecond)
		fmt.Fprintf(os.Stderr, "\r%s entries", humanize.Comma(p.n))
	}
}

func (p *progress) done() {
	if p.show {
		fmt.Fprintf(os.Stderr, "\r%s entries, complete\n", humanize.Comma(p.n))
	}
}

func tailCommand() *cobra.Command {
	var p place
	var n int
	var followed, asJSON bool
	cmd := &cobra.Command{
		Use:     "tail [-n <number>] [-f] [--json]",
		Short:   "Shows the newest entries, and each further one as it is recorded",
		Example: "  caddy audit tail -f",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < 0 || n > operator.MaxTail {
				return fmt.Errorf("-n %d: give a number from 0 to %d", n, operator.MaxTail)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
			defer stop()
			print := linePrinter(cmd.OutOrStdout(), asJSON)
			values := url.Values{"n": {strconv.Itoa(n)}}
			if followed {
				values.Set("follow", "1")
			}
			body, err := p.get(ctx, operator.TailPath, values)
			if err == nil {
				defer body.Close()
				if err = eachLine(body, print); ctx.Err() != nil {
					return nil
				}
				return err
			}
			if !errors.Is(err, errDown) {
				return err
			}
			if followed {
				return fmt.Errorf("%w: there is nothing to follow; without -f the stored entries are shown", err)
			}
			return tailStored(ctx, &p, n, print)
		},
	}
	p.flags(cmd)
	cmd.Flags().IntVarP(&n, "lines", "n", 10, "How many entries to begin with")
	cmd.Flags().BoolVarP(&followed, "follow", "f", false, "Go on with each new entry until interrupted")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON, one object a line")
	return cmd
}

func tailStored(ctx context.Context, p *place, n int, print func([]byte) error) error {
	if n == 0 {
		return nil
	}
	var docs [][]byte
	err := stored(ctx, p, "", forwarder.Query{NewestFirst: true, Limit: n}, func(doc []byte) error {
		docs = append(docs, slices.Clone(doc))
		return nil
	})
	if err != nil {
		return err
	}
	for _, doc := range slices.Backward(docs) {
		if err := print(doc); err != nil {
			return err
		}
	}
	return nil
}

// linePrinter prints an entry as one line, for people unless asJSON.
func linePrinter(w io.Writer, asJSON bool) func([]byte) error {
	return func(doc []byte) error {
		if asJSON {
			_, err := fmt.Fprintf(w, "%s\n", doc)
			return err
		}
		e, err := audit.Decode(doc)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(w, display.Summary(e))
		return err
	}
}
