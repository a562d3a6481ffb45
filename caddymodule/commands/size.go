package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stores"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/syntax"
	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
	"github.com/caddy-audit-log/caddy-audit-log/internal/machine"
	"github.com/caddy-audit-log/caddy-audit-log/internal/sizing"
)

// sizeAskWithin bounds the questions to the running server.
const sizeAskWithin = 30 * time.Second

func sizeCommand() *cobra.Command {
	var p place
	var q sizeQuestion
	cmd := &cobra.Command{
		Use: "size [--rate <entries per second>] [--entry-bytes <bytes>] [--changing <percentage>] [--outage <duration>]\n" +
			"             [--keep <term>] [--store <kind>]… [--max-size <size>] [--free <size>] [--json]",
		Short: "Computes how much disk the buffer and the stores need",
		Long: `
Computes how long the buffer lasts when no store takes anything, what max_size an
outage needs, how fast each store grows, and when the disk is full.

What no flag says comes from the running server: how many entries it has had in the
last day, how long its newest thousand are, and how many of its calls change
something. Without a server, give --rate. The sizes, terms and stores are those of
the configuration, and without one the defaults.

The rate is a mean. For --outage give --rate of the busiest hours. Nothing is
changed, and the server is asked three small questions.`,
		Example: "  caddy audit size --outage 3d\n" +
			"  caddy audit size --rate 50 --entry-bytes 1300 --outage 12h --keep 400d --store postgres --json",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			ctx, cancel := context.WithTimeout(ctx, sizeAskWithin)
			defer cancel()
			r, err := q.answer(ctx, &p)
			if err != nil {
				return err
			}
			if q.asJSON {
				return printJSON(cmd.OutOrStdout(), r)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), r.text())
			return err
		},
	}
	p.flags(cmd)
	f := cmd.Flags()
	f.Float64Var(&q.rate, "rate", 0, "Entries in a second (default: the running server's last day)")
	f.StringVar(&q.entryBytes, "entry-bytes", "", "The mean of an entry's JSON (default: the running server's newest thousand)")
	f.StringVar(&q.changing, "changing", "", "The share of calls that change something, as in 30% (default: the running server's)")
	f.StringVar(&q.outage, "outage", "", "For how long every store may be away, as in 12h or 3d")
	f.StringVar(&q.keep, "keep", "", "How long entries are kept, as in 400d, 7y or forever (default: the configuration's default)")
	f.StringArrayVar(&q.stores, "store", nil, "A kind of store, as in postgres; may be repeated (default: the configuration's)")
	f.StringVar(&q.maxSize, "max-size", "", "The buffer's max_size (default: the configuration's)")
	f.StringVar(&q.free, "free", "", "What the buffer's disk has left (default: what the system says)")
	f.BoolVar(&q.asJSON, "json", false, "Print JSON")
	return cmd
}

// sizeQuestion is what the command is asked.
type sizeQuestion struct {
	rate                                              float64
	entryBytes, changing, outage, keep, maxSize, free string
	stores                                            []string
	asJSON                                            bool
}

// sizeReport is what it answers.
type sizeReport struct {
	sizing.Input
	sizing.Sizes
	OutageSeconds float64 `json:"outage_seconds,omitempty"`
	// From says where the three measures come from.
	From string `json:"from"`
}

func (q *sizeQuestion) answer(ctx context.Context, p *place) (*sizeReport, error) {
	r := &sizeReport{}
	in := &r.Input
	if err := q.configured(ctx, p, in); err != nil {
		return nil, err
	}
	if err := q.given(in); err != nil {
		return nil, err
	}
	o := observation{EntryBytes: sizing.SampleEntryBytes, Changing: sizing.SampleChanging, how: "a made-up platform's entries: give --entry-bytes and --changing"}
	if q.rate == 0 || q.entryBytes == "" || q.changing == "" {
		seen, err := observe(ctx, p, q.rate == 0)
		switch {
		case err == nil:
			o = *seen
			in.BufferBytes = seen.bufferBytes
		case q.rate == 0:
			if errors.Is(err, errFewEntries) {
				return nil, fmt.Errorf("measuring what the server records: %w: ask again in a minute, or give --rate", err)
			}
			return nil, fmt.Errorf("%w: start the server, or give --rate", err)
		}
	}
	in.Rate, in.EntryBytes = cmp.Or(q.rate, o.Rate), cmp.Or(in.EntryBytes, o.EntryBytes)
	if q.changing == "" {
		in.Changing = o.Changing
	}
	if r.From = o.how; q.rate > 0 && q.entryBytes != "" && q.changing != "" {
		r.From = "the flags"
	}
	r.Sizes, r.OutageSeconds = *sizing.Compute(in), in.Outage.Seconds()
	return r, nil
}

// configured takes what the configuration says, and the defaults where there is none.
func (q *sizeQuestion) configured(ctx context.Context, p *place, in *sizing.Input) error {
	in.MaxSize, in.Free, in.MinFree = buffer.DefaultMaxSize, -1, buffer.DefaultMinFree
	app, done, err := p.offline(ctx)
	if err != nil {
		if _, missing := os.Stat("Caddyfile"); p.config != "" || missing == nil {
			return err
		}
		in.Stores = []sizing.Store{{Name: "sqlite", Kind: "sqlite", SameDisk: true}}
		return nil
	}
	defer done()
	options := app.BufferOptions()
	in.MaxSize, in.MinFree = cmp.Or(options.MaxSize, in.MaxSize), cmp.Or(options.MinFree, in.MinFree)
	at := machine.Nearest(app.Directory())
	if f, err := machine.FilesystemOf(at); err == nil {
		in.Free = f.Free
		if options.MinFree == 0 {
			in.MinFree = min(in.MinFree, f.Total/20)
		}
	}
	in.BufferBytes = min(machine.BytesIn(app.Directory()), in.MaxSize)
	in.KeepDays = keepDays(app.Retention().Terms().Term(audit.ClassDefault))
	for _, n := range app.Retention().Stores {
		d := n.Opener.Describe()
		s := sizing.Store{Name: n.Name, Kind: d.Kind}
		if sizing.IsLocal(d.Kind) {
			s.SameDisk = sameFilesystem(at, machine.Nearest(d.Location))
		}
		if d.Kind == "sqlite" {
			for _, name := range []string{d.Location, d.Location + "-wal"} {
				if info, err := os.Stat(name); err == nil {
					s.Bytes += info.Size()
				}
			}
		}
		in.Stores = append(in.Stores, s)
	}
	return nil
}

// keepDays is a term in days, as it is carried out: the day of an entry's arrival ends, and
// a day's margin. Zero is for ever.
func keepDays(t audit.Term) float64 {
	if t.IsForever() || t.IsZero() {
		return 0
	}
	now := time.Now()
	return time.UnixMicro(t.KeepMicros(now.UnixMicro())).Sub(now).Hours() / 24
}

func sameFilesystem(a, b string) bool {
	first, err := os.Stat(a)
	second, err2 := os.Stat(b)
	if err != nil || err2 != nil {
		return false
	}
	device, ok := machine.DeviceOf(first)
	other, ok2 := machine.DeviceOf(second)
	return ok && ok2 && device == other
}

// given takes what the flags say.
func (q *sizeQuestion) given(in *sizing.Input) (err error) {
	wrong := func(flag, value string, err error) error { return fmt.Errorf("--%s %q: %w", flag, value, err) }
	if q.rate < 0 || q.rate > 1e7 {
		return fmt.Errorf("--rate %g: it is above zero and below ten million", q.rate)
	}
	if q.entryBytes != "" {
		n, err := humanize.ParseBytes(q.entryBytes)
		if err != nil || n == 0 || n > buffer.MaxPayload {
			return wrong("entry-bytes", q.entryBytes, errors.New("give it a number of bytes, up to 1MiB, as in 1300"))
		}
		in.EntryBytes = float64(n)
	}
	if q.changing != "" {
		var percent float64
		if _, err := fmt.Sscanf(strings.TrimSuffix(q.changing, "%"), "%g", &percent); err != nil || !(percent >= 0 && percent <= 100) {
			return wrong("changing", q.changing, errors.New("give it a percentage, as in 30%"))
		}
		in.Changing = percent / 100
	}
	if q.outage != "" {
		if in.Outage, err = caddy.ParseDuration(q.outage); err != nil || in.Outage <= 0 {
			return wrong("outage", q.outage, errors.New("give it a duration, as in 12h or 3d"))
		}
	}
	if q.keep != "" {
		t, err := audit.ParseTerm(q.keep)
		if err != nil {
			return wrong("keep", q.keep, err)
		}
		in.KeepDays = keepDays(t)
	}
	for _, size := range []struct {
		flag, value string
		to          *int64
	}{{"max-size", q.maxSize, &in.MaxSize}, {"free", q.free, &in.Free}} {
		if size.value == "" {
			continue
		}
		if *size.to, err = syntax.Size(size.value); err != nil {
			return wrong(size.flag, size.value, err)
		}
	}
	if len(q.stores) > 0 {
		in.Stores = nil
	}
	for _, kind := range q.stores {
		if _, err := caddy.GetModule("audit_log.stores." + kind); err != nil {
			return wrong("store", kind, errors.New("this program has no such store"))
		}
		in.Stores = append(in.Stores, sizing.Store{Name: kind, Kind: kind, SameDisk: true})
	}
	return nil
}

// observation is what a running server shows of its entries.
type observation struct {
	Rate, EntryBytes, Changing float64
	bufferBytes                int64
	how                        string
}

// observe asks the server. The rate counts from the first entry of the last day to the
// newest, by their numbers, of which none is left out.
func observe(ctx context.Context, p *place, rate bool) (*observation, error) {
	status, err := p.liveStatus(ctx)
	if err != nil {
		return nil, err
	}
	list, err := p.newest(ctx, operator.MaxTail)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(e liveEntry) bool { return e.Origin == nil || e.Origin.Instance != status.Instance })
	if len(list) < 2 {
		return nil, errors.New("measuring what the server records: it has no entries yet")
	}
	o := &observation{bufferBytes: status.BufferBytes}
	calls, changing := 0, 0
	for _, e := range list {
		bytes := float64(e.bytes)
		if e.Retention == nil {
			bytes += sizing.StampBytes // it comes from the buffer
		}
		o.EntryBytes += bytes / float64(len(list))
		if !e.IsEvent() {
			calls++
		}
		if e.Policy.Durability == audit.DurabilityStrict {
			changing++
		}
	}
	o.Changing = float64(changing) / float64(len(list))
	o.how = fmt.Sprintf("the running server's newest %d entries", len(list))
	if !rate {
		return o, nil
	}
	last, first := list[len(list)-1].Entry, list[0].Entry
	if older, err := p.firstSince(ctx, time.Now().Add(-24*time.Hour), status.Instance); err == nil && older != nil && older.Origin.Sequence < first.Origin.Sequence {
		first = older
	}
	over := time.Duration(last.Timestamp-first.Timestamp) * time.Microsecond
	if over < time.Second {
		return nil, errFewEntries
	}
	o.Rate = float64(last.Origin.Sequence-first.Origin.Sequence) / over.Seconds()
	o.how = fmt.Sprintf("the running server's last %s, and its newest %d entries", display.Spell(over.Seconds()), len(list))
	return o, nil
}

func (r *sizeReport) text() string {
	var b strings.Builder
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-9s %s\n", label, display.Printable(fmt.Sprintf(format, args...)))
	}
	size := func(bytes float64) string { return humanize.IBytes(uint64(sizing.ClampBytes(bytes))) }
	in, s := &r.Input, &r.Sizes
	line("entries", "%.4g a second, %.0f bytes each, %.0f%% with an intent", in.Rate, in.EntryBytes, 100*in.Changing)
	line("", "from %s", r.From)
	line("per day", "%s entries, %s of JSON", humanize.Comma(int64(s.EntriesPerDay)), size(s.BytesPerDay))
	line("buffer", "%s a day; max_size is %s", size(s.BufferBytesPerDay), size(float64(in.MaxSize)))
	switch {
	case s.BufferLasts == nil:
		line("", "it lasts for ever if no store takes anything")
	case s.DiskFirst:
		line("", "it lasts %s if no store takes anything, since the disk has less room than max_size", display.Spell(*s.BufferLasts))
	default:
		line("", "it lasts %s if no store takes anything", display.Spell(*s.BufferLasts))
	}
	if s.MaxSizeNeeded > 0 {
		line("", "an outage of %s takes %s: max_size %s, a quarter more", display.Spell(r.OutageSeconds), size(float64(s.OutageBytes)), caddyfileSize(s.MaxSizeNeeded))
	}
	for _, store := range s.Stores {
		if !store.Measured {
			line(store.Name, "%s a day are sent; what they take there is for the receiver to say", size(store.PerDay))
			continue
		}
		end := "and more with each day, as nothing expires"
		if store.AtEnd != nil {
			end = fmt.Sprintf("%s in the end, when as much expires as comes after %.0f days", size(*store.AtEnd), in.KeepDays)
		}
		line(store.Name, "%s a day, %.0f bytes an entry; %s", size(store.PerDay), store.PerEntry, end)
	}
	r.disk(line)
	return b.String()
}

func (r *sizeReport) disk(line func(label, format string, args ...any)) {
	in, s := &r.Input, &r.Sizes
	if in.Free < 0 {
		line("disk", "not known: give --free")
		return
	}
	free := fmt.Sprintf("%s are free, of which the buffer may need %s and %s are for others", humanize.IBytes(uint64(in.Free)),
		humanize.IBytes(uint64(max(0, in.MaxSize-in.BufferBytes))), humanize.IBytes(uint64(in.MinFree)))
	line("disk", "%s", free)
	switch {
	case s.DiskFull == nil:
		line("", "it does not get full")
	case *s.DiskFull == 0:
		line("", "it is too small as it is")
	case s.DiskShort < 0:
		line("", "it is full in %s, since nothing expires", display.Spell(*s.DiskFull))
	default:
		line("", "it is full in %s; %s are missing in the end", display.Spell(*s.DiskFull), humanize.IBytes(uint64(s.DiskShort)))
	}
}

// caddyfileSize is a size as a Caddyfile takes it.
func caddyfileSize(bytes int64) string {
	if bytes%(1<<30) == 0 {
		return fmt.Sprintf("%dGiB", bytes>>30)
	}
	return fmt.Sprintf("%dMiB", bytes>>20)
}

// locationOf is where a store's own files are, empty if it has none here.
func locationOf(n *stores.Store) string {
	if d := n.Opener.Describe(); sizing.IsLocal(d.Kind) {
		return filepath.Clean(d.Location)
	}
	return ""
}

// errFewEntries says that a rate cannot be made of what the server has recorded.
var errFewEntries = errors.New("all its entries lie within one second")
