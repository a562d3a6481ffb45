package commands

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	terminal "golang.org/x/term"

	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
)

func bufferCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "buffer",
		Short: "Looks into a buffer that no server has open",
		Long: `
Looks into a buffer that no server has open: the configuration's, or the one in
a directory. All but repair --write only read. Ask a running server with
"caddy audit status".`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(bufferInspectCommand(), bufferVerifyCommand(), bufferExportCommand(), bufferRepairCommand())
	return cmd
}

// directory is the argument of a command, or the configuration's buffer.
func (p *place) directory(ctx context.Context, args []string) (string, error) {
	if len(args) > 0 {
		return filepath.Abs(args[0])
	}
	app, done, err := p.offline(ctx)
	if err != nil {
		return "", fmt.Errorf("%w; or name the buffer's directory", err)
	}
	defer done()
	return app.Directory(), nil
}

// openOffline opens the buffer that a command names. A server that has it gets an
// error that says what to ask instead.
func (p *place) openOffline(ctx context.Context, args []string) (*buffer.Offline, error) {
	dir, err := p.directory(ctx, args)
	if err != nil {
		return nil, err
	}
	o, err := buffer.OpenOffline(dir)
	if errors.Is(err, buffer.ErrLocked) {
		return nil, fmt.Errorf("reading buffer %q: a server has it open: ask that with \"caddy audit status\", or stop it first", dir)
	}
	return o, err
}

// onBuffer is the run of a command that looks into the buffer that it names.
func (p *place) onBuffer(run func(ctx context.Context, o *buffer.Offline, out io.Writer) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) (err error) {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
		defer stop()
		o, err := p.openOffline(ctx, args)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, o.Close()) }()
		return run(ctx, o, cmd.OutOrStdout())
	}
}

// verify reads everything, with a bar.
func verify(ctx context.Context, o *buffer.Offline) ([]buffer.SegmentReport, error) {
	bar := newBar("verifying")
	defer bar.end()
	return o.Verify(ctx, bar.set)
}

// configFlags are the flags of commands that need only the configuration.
func (p *place) configFlags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&p.config, "config", "c", "", "The configuration that names the buffer (default: ./Caddyfile)")
	cmd.Flags().StringVarP(&p.adapter, "adapter", "a", "", "The configuration's adapter (default: by its name)")
}

// inspection is what inspect prints.
type inspection struct {
	Instance   string    `json:"instance"`
	Clean      bool      `json:"clean"`
	LastCommit time.Time `json:"last_commit,omitzero"`
	Head       uint64    `json:"head"`
	Oldest     uint64    `json:"oldest"`
	Open       int       `json:"open"`
	Bytes      int64     `json:"bytes"`

	Calls    buffer.Calls               `json:"calls"`
	Stores   map[string]buffer.Position `json:"stores"`
	Segments []buffer.SegmentReport     `json:"segments"`
	// Quarantine is what stores will never take.
	Quarantine buffer.QuarantineReport `json:"quarantine"`
}

func bufferInspectCommand() *cobra.Command {
	var p place
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "inspect [--json] [<directory>]",
		Short:   "Shows what a buffer holds and how far its stores are",
		Example: "  caddy audit buffer inspect ./audit-data/buffer",
		Args:    cobra.MaximumNArgs(1),
		RunE: p.onBuffer(func(_ context.Context, o *buffer.Offline, out io.Writer) error {
			st := o.Stats()
			in := inspection{
				Instance: st.Instance, Head: st.Head, Oldest: st.Oldest, Open: st.Open, Bytes: st.Bytes,
				Calls: st.Calls, Stores: st.Stores, Segments: o.Segments(), Quarantine: o.Quarantine(),
			}
			in.Clean, in.LastCommit = o.Clean()
			if asJSON {
				return printJSON(out, in)
			}
			_, err := io.WriteString(out, in.text())
			return err
		}),
	}
	p.configFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")
	return cmd
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func (in *inspection) text() string {
	var b strings.Builder
	end := "closed in order"
	if !in.Clean {
		end = fmt.Sprintf("not closed; %d call(s) without an end will be recorded as unknown", in.Open)
	}
	fmt.Fprintf(&b, "instance  %s, %s\n", in.Instance, end)
	if !in.LastCommit.IsZero() {
		fmt.Fprintf(&b, "written   %s (%s)\n", in.LastCommit.Format(time.RFC3339), humanize.Time(in.LastCommit))
	}
	fmt.Fprintf(&b, "entries   %s to %s, %s\n", humanize.Comma(int64(in.Oldest)), humanize.Comma(int64(in.Head)), humanize.IBytes(uint64(in.Bytes)))
	for name, s := range in.Stores {
		fmt.Fprintf(&b, "store     %s is at %s: %s wait\n", display.Printable(name), humanize.Comma(int64(s.Position)), humanize.Comma(int64(in.Head-s.Position)))
	}
	for store, n := range in.Quarantine.Stores {
		fmt.Fprintf(&b, "quarantine has %s entries that store %s refuses\n", humanize.Comma(int64(n)), display.Printable(store))
	}
	for _, s := range in.Segments {
		fmt.Fprintf(&b, "%s  %s entries, %s\n", s.Name, humanize.Comma(int64(s.Last+1-s.First)), humanize.IBytes(uint64(s.Bytes)))
	}
	return b.String()
}

func bufferVerifyCommand() *cobra.Command {
	var p place
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [--json] [<directory>]",
		Short: "Reads every byte of a buffer and says whether anything is harmed",
		Long: `
Reads every byte of a buffer: checksums, pages, entries and their order. Exits
with 1 if a file is harmed, and says which entries are lost, if any. A server
starts on a harmed buffer all the same, delivers what is left and records a gap
for the rest.`,
		Example: "  caddy audit buffer verify --json ./audit-data/buffer | jq '.[] | select(.lost > 0)'",
		Args:    cobra.MaximumNArgs(1),
		RunE: p.onBuffer(func(ctx context.Context, o *buffer.Offline, out io.Writer) error {
			list, err := verify(ctx, o)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(out, list)
			} else {
				_, err = io.WriteString(out, reportText(list))
			}
			if harmed := countHarmed(list); err == nil && harmed > 0 {
				err = fmt.Errorf("verifying: %d of %d segment(s) are harmed: start the server, which delivers what is left, or see \"caddy audit buffer repair --help\"", harmed, len(list))
			}
			return err
		}),
	}
	p.configFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")
	return cmd
}

func countHarmed(list []buffer.SegmentReport) (n int) {
	for _, s := range list {
		if s.Harm != "" {
			n++
		}
	}
	return n
}

func reportText(list []buffer.SegmentReport) string {
	var b strings.Builder
	for _, s := range list {
		state := "whole"
		if s.Harm != "" {
			least := ""
			if s.AtLeast {
				least = "at least "
			}
			state = fmt.Sprintf("HARMED, %s%s entries lost: %s", least, humanize.Comma(int64(s.Lost)), display.Printable(s.Harm))
		}
		fmt.Fprintf(&b, "%s  %s entries, checksum %s: %s\n", s.Name, humanize.Comma(int64(s.Last+1-s.First)), s.Checksum, state)
		for _, r := range s.Ranges {
			fmt.Fprintf(&b, "    lost: %d to %d\n", r[0], r[1])
		}
	}
	return b.String()
}

func bufferExportCommand() *cobra.Command {
	var p place
	var from uint64
	cmd := &cobra.Command{
		Use:   "export [--from <sequence>] [<directory>]",
		Short: "Prints every entry that a buffer holds",
		Long: `
Prints every entry that a buffer holds, in sequence, one JSON object a line, with
its origin: those that no store has, and those that have not been removed yet.
All revisions are printed, and last what is only in quarantine any more. Harmed files are read as far as they can be, and what
is lost is said on standard error; the exit code is then 1.`,
		Example: "  caddy audit buffer export ./audit-data/buffer | gzip > buffer.ndjson.gz",
		Args:    cobra.MaximumNArgs(1),
		RunE: p.onBuffer(func(ctx context.Context, o *buffer.Offline, out io.Writer) error {
			return exportBuffer(ctx, o, from, out, os.Stderr)
		}),
	}
	p.configFlags(cmd)
	cmd.Flags().Uint64Var(&from, "from", 0, "Begin with the entry of this sequence")
	return cmd
}

func exportBuffer(ctx context.Context, o *buffer.Offline, from uint64, w, diag io.Writer) error {
	st := o.Stats()
	first := from
	from = max(from, st.Oldest)
	bar := newBar("exporting")
	defer bar.end()
	out := bufio.NewWriterSize(w, 256<<10)
	var failed error
	var lost uint64
	printOne := func(instance string, sequence uint64, payload []byte) bool {
		r, err := forwarder.NewRecord(instance, sequence, payload)
		if err != nil {
			lost++
			fmt.Fprintf(diag, "entry %d cannot be decoded: %v\n", sequence, err)
			return true
		}
		_, _ = out.Write(r.JSON)
		failed = errors.Join(out.WriteByte('\n'), ctx.Err())
		if sequence%1000 == 0 {
			bar.set(int64(sequence-min(sequence, from)), int64(st.Head+1-from))
		}
		return failed == nil
	}
	err := o.ReadPast(from, func(sequence uint64, payload []byte) bool {
		return printOne(o.Instance(sequence), sequence, payload)
	}, func(d *buffer.DamagedError) {
		lost += d.Last + 1 - d.First
		fmt.Fprintln(diag, d)
	})
	aside := map[uint64]bool{} // of several stores, an entry is printed once
	if err == nil && failed == nil {
		err = o.Quarantined("", 0, func(q buffer.Quarantined) bool {
			if q.Sequence >= st.Oldest || aside[q.Sequence] || q.Sequence < first {
				return true
			}
			aside[q.Sequence] = true
			return printOne(q.Instance, q.Sequence, q.Payload)
		})
	}
	if err = errors.Join(err, failed, out.Flush()); err != nil {
		return fmt.Errorf("exporting the buffer: %w", err)
	}
	if lost > 0 {
		return fmt.Errorf("exporting the buffer: %d entries could not be read; all others are printed", lost)
	}
	return nil
}

func bufferRepairCommand() *cobra.Command {
	var p place
	var write bool
	cmd := &cobra.Command{
		Use:   "repair [--write] [<directory>]",
		Short: "Writes harmed files again from what can be read of them",
		Long: `
Shows what of a buffer is harmed, and with --write, writes the harmed files again
from what can be read of them. Each harmed file stays beside its repaired one, with
".damaged" at the end of its name. Gaps are recorded for what is lost, and calls
without an end become unknown, as a server's start would do.

A server needs no repaired buffer to start or to deliver what is left. Repair
before a disk that is going to get worse is copied, or to see what is lost first.`,
		Example: "  caddy audit buffer repair ./audit-data/buffer\n  caddy audit buffer repair --write ./audit-data/buffer",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
			defer stop()
			o, err := p.openOffline(ctx, args)
			if err != nil {
				return err
			}
			list, err := verify(ctx, o)
			if err = errors.Join(err, o.Close()); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if _, err := io.WriteString(out, reportText(list)); err != nil {
				return err
			}
			switch harmed := countHarmed(list); {
			case harmed == 0:
				_, err = fmt.Fprintln(out, "nothing is harmed")
				return err
			case !write:
				_, err = fmt.Fprintf(out, "%d segment(s) would be written again; --write does it\n", harmed)
				return err
			}
			dir, err := p.directory(ctx, args)
			if err != nil {
				return err
			}
			app, err := newSidecar()
			if err != nil {
				return err
			}
			bar := newBar("repairing")
			repaired, err := buffer.Repair(ctx, dir, app.AdoptOptions(), bar.set)
			bar.end()
			for _, name := range repaired {
				fmt.Fprintf(out, "%s is written again; the harmed file is %s.damaged\n", name, name)
			}
			return err
		},
	}
	p.configFlags(cmd)
	cmd.Flags().BoolVar(&write, "write", false, "Write the harmed files again")
	return cmd
}

// bar shows on standard error how far a command is: a bar on a terminal, a line now
// and then elsewhere.
type bar struct {
	what string
	bar  *progressbar.ProgressBar
	next time.Time
}

func newBar(what string) *bar { return &bar{what: what, next: time.Now().Add(barEvery)} }

// barEvery is how often a line is printed where there is no terminal.
const barEvery = 5 * time.Second

func (b *bar) set(done, total int64) {
	if !terminal.IsTerminal(int(os.Stderr.Fd())) {
		if now := time.Now(); now.After(b.next) {
			b.next = now.Add(barEvery)
			fmt.Fprintf(os.Stderr, "%s: %.1f %%\n", b.what, 100*float64(done)/float64(max(total, 1)))
		}
		return
	}
	if b.bar == nil {
		b.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription(b.what),
			progressbar.OptionSetWidth(30), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetPredictTime(true))
	}
	b.bar.ChangeMax64(total)
	_ = b.bar.Set64(done)
}

func (b *bar) end() {
	if b.bar != nil {
		_ = b.bar.Finish()
	}
}
