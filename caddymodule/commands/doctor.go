package commands

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
	"github.com/caddy-audit-log/caddy-audit-log/internal/machine"
)

// doctorWithin bounds each of the doctor's checks.
const doctorWithin = 10 * time.Second

// The exit codes of the doctor.
const (
	doctorWell    = 0
	doctorIll     = 1
	doctorUnknown = 2
)

func doctorCommand() *cobra.Command {
	var p place
	var asJSON bool
	o := doctorOptions{}
	cmd := &cobra.Command{
		Use:   "doctor [--probe] [--timeout <duration>] [--json]",
		Short: "Looks for what is wrong with the configuration, the machine and the server",
		Long: `
Looks for what is wrong, or will be, and says how to mend it: the configuration, the
buffer's disk and how fast it syncs, the clock, the modes of files, the stores, the
services that are asked, and the running server, if one runs. Run it in the server's
directory, with the server's environment and as its user, before the first start and
whenever something looks odd.

It changes nothing. It does not take the buffer's lock, so that it may run beside a
server and before one; it syncs a few blocks in a file without a name, for half a
second at most; it asks each service once, with a time limit. Stores are looked at and
not written to, unless --probe is given: then each gets a probe, as "caddy audit store
check" writes it.

Exits with 1 if something is wrong, with 2 if it could not look, and else with 0, also
when there are warnings.`,
		Example: "  caddy audit doctor\n  caddy audit doctor --probe --config /etc/caddy/Caddyfile\n  caddy audit doctor --json | jq '.findings[] | select(.state == \"wrong\")'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			code, err := func() (int, error) {
				report, err := examine(ctx, &p, o)
				if err != nil {
					return doctorUnknown, err
				}
				out := cmd.OutOrStdout()
				if asJSON {
					err = printJSON(out, report)
				} else {
					err = report.Print(out)
				}
				if err != nil {
					return doctorUnknown, err
				}
				if report.Wrong > 0 {
					return doctorIll, fmt.Errorf("looking for what is wrong: %d finding(s) are: see above", report.Wrong)
				}
				return doctorWell, nil
			}()
			return exitWith(cmd, code, err)
		},
	}
	p.flags(cmd)
	cmd.Flags().BoolVar(&o.probe, "probe", false, "Write a probe to each store, an entry with the code audit.probe")
	cmd.Flags().DurationVar(&o.within, "timeout", doctorWithin, "Give up each check after this time")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")
	return cmd
}

// exitWith ends a command with an exit code, which only Caddy's own kind of error holds.
func exitWith(cmd *cobra.Command, code int, err error) error {
	if code <= 1 {
		return err
	}
	cmd.PrintErrln("Error:", err)
	cmd.SilenceErrors = true
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return code, nil })(cmd, nil)
}

type doctorOptions struct {
	probe  bool
	within time.Duration
}

// examination is what the checks look at. Nothing of it changes while they run, which they do
// at the same time.
type examination struct {
	doctorOptions
	place *place
	// config is the adapted configuration, and app its audit log, validated and not
	// started. Both are nil where that failed, and app where there is no audit log.
	config []byte
	app    Examined
	sites  []*catalogSite // of config, without what only the machine knows
	// status is the running server's, nil where none answered; then silence says why.
	status  *operator.Status
	silence error
	// newest are its last entries, oldest first.
	newest []liveEntry
}

// look is one of them. What it finds goes under its name, which is that of its section in
// docs/doctor.md.
type look struct {
	name string
	at   func(ctx context.Context, d *examination) []doctor.Diagnosis
}

// checks are in the order in which they are reported.
func checks() []look {
	return []look{
		{"server", checkServer},
		{"user", checkUser},
		{"disk", checkDisk},
		{"fsync", checkSync},
		{"clock", checkClock},
		{"files", checkFiles},
		{"routes", checkRoutes},
		{"policy", checkPolicy},
		{"proxies", checkProxies},
		{"listeners", checkListeners},
		{"services", checkServices},
		{"stores", checkStores},
		{"retention", checkRetention},
		{"calls", checkCalls},
		{"delivery", checkDelivery},
	}
}

// errBlind means that there was nothing to look at.
var errBlind = errors.New("looking for what is wrong: there is neither a configuration nor a server to look at")

// examine looks at everything. The error says that it could not look.
func examine(ctx context.Context, p *place, o doctorOptions) (*doctor.Report, error) {
	if o.within <= 0 {
		return nil, errors.New("--timeout must be above zero, as in 10s")
	}
	d := &examination{doctorOptions: o, place: p}
	found, err := d.readConfiguration(ctx)
	if err != nil && p.address == "" {
		return nil, err
	}
	d.ask(ctx)
	if err != nil && d.status == nil {
		return nil, fmt.Errorf("%w: %w; %w", errBlind, err, d.silence)
	}
	report := new(doctor.Report)
	report.Add("configuration", found)
	var all []doctor.Check
	for _, l := range checks() {
		all = append(all, doctor.Check{Name: l.name, Look: func(ctx context.Context) []doctor.Diagnosis { return l.at(ctx, d) }})
	}
	report.Run(ctx, o.within, all)
	return report, ctx.Err()
}

// ask asks the server, if one runs.
func (d *examination) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, d.within)
	defer cancel()
	if d.status, d.silence = d.place.liveStatus(ctx); d.status == nil {
		return
	}
	d.newest, _ = d.place.newest(ctx, operator.MaxTail) // without them, some checks do not know
}

// checkServer says whether there is a server to look at.
func checkServer(_ context.Context, d *examination) []doctor.Diagnosis {
	if s := d.status; s != nil {
		list := []doctor.Diagnosis{doctor.Fine("it runs, and answers at its admin endpoint")}
		if d.app != nil && d.app.Directory() != s.Directory {
			list = append(list, doctor.Warning("it runs with another configuration: its buffer is %s, and that of this configuration %s", s.Directory, d.app.Directory()).
				Mend("reload it, or give its own with --config and its environment"))
		}
		return list
	}
	if d.config == nil && d.place.address == "" {
		return unread() // which says where the endpoint is
	}
	if !errors.Is(d.silence, errDown) {
		return []doctor.Diagnosis{doctor.Wrong("it cannot be asked: %v", d.silence).Mend("run this as the server's user, or give --address")}
	}
	if pid, ok := d.holder(); ok {
		return []doctor.Diagnosis{doctor.Wrong("process %d has the buffer open, and nobody answers at the admin endpoint", pid).
			Mend("give the --address of its endpoint, or look whether that process still works")}
	}
	return []doctor.Diagnosis{doctor.NotKnown("it does not run, so that only what does not move was looked at").Mend("start it, and look again")}
}

// holder is the process that has the buffer open.
func (d *examination) holder() (pid int, ok bool) {
	dir, ok := d.bufferDir()
	if !ok {
		return 0, false
	}
	return machine.LockHolder(filepath.Join(dir, "LOCK"))
}
