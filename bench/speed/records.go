//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
	"github.com/caddy-audit-log/caddy-audit-log/internal/otelcol"
	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// Who takes records.
const (
	ours      = "audit_log"
	collector = "OpenTelemetry Collector"
)

// recorded is what one of them managed in one round.
type recorded struct {
	Who     string  `json:"who"`
	Calls   int     `json:"calls"`
	Round   int     `json:"round"`
	Rate    float64 `json:"records_per_second"`
	P99     float64 `json:"p99_ms"`
	CPU     float64 `json:"cpu_us_per_record"`
	Written float64 `json:"kib_written_per_record"`
}

// records is the part that measures taking one record over HTTP, which is durable when the
// answer leaves: a site of ours that answers by itself, and a Collector whose queue is a file
// that is synced. Neither can pass anything on meanwhile.
type records struct {
	options
	setup     rig.Setup
	self, dir string
	figures   []recorded
}

func (r *records) calls() []int {
	if r.Quick {
		return []int{64}
	}
	return []int{16, 64, 256}
}

// A site that takes records. Each call is one; what is recorded of it is what is recorded of
// any call.
const recordSite = `{
	admin {$ADMIN_LISTEN}
	audit_log {
		buffer {$AUDIT_DIR}/buffer
		store sqlite {$AUDIT_DIR}/audit.db
	}
}

http://:{$PORT} {
	bind {$BIND}
	audit_log {
		rule * metadata answer
	}
	respond ok
}
`

func (r *records) run(ctx context.Context) error {
	bar := rig.NewProgress("records")
	done, of := 0, 2*r.Rounds*len(r.calls())
	for round := 1; round <= r.Rounds; round++ {
		err := r.round(ctx, round, func(f recorded) {
			r.figures = append(r.figures, f)
			done++
			bar.Step(done, of, fmt.Sprintf("%s, %d at a time: %.0f/s", f.Who, f.Calls, f.Rate))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *records) round(ctx context.Context, round int, did func(recorded)) (err error) {
	dir := filepath.Join(r.dir, "records")
	setup := r.setup
	setup.Caddyfile = filepath.Join(dir, "Caddyfile")
	site, err := rig.NewSite(setup, dir, "")
	if err != nil {
		return err
	}
	if err := os.WriteFile(setup.Caddyfile, []byte(recordSite), 0o600); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(site.AuditDir(), "audit.db"), 0o700); err != nil { // the store cannot open it
		return err
	}
	p, err := site.Start(ctx)
	if err != nil {
		return err
	}
	defer p.Kill()
	if err := p.Ready(ctx, 30*time.Second); err != nil {
		return err
	}
	c, err := otelcol.Start(ctx, dir, "http://"+ports.Host+":9", otelcol.QueueFile) // discard, where nobody listens
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	body := `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1796000000000000000","body":{"stringValue":"` + strings.Repeat("x", payloadSize) + `"}}]}]}]}`
	for _, calls := range r.calls() {
		for _, who := range []struct {
			name, addr string
			pid        int
		}{{ours, site.Addr, p.PID}, {collector, strings.TrimPrefix(c.Endpoint, "http://"), c.PID()}} {
			m, before, after, err := put(ctx, r.self, who.pid, load{
				Addr: who.addr, Calls: calls, Warmup: r.Warmup, Duration: r.Duration, Target: "/v1/logs", Body: body, Type: "application/json",
			})
			if err != nil {
				return fmt.Errorf("giving records to %s: %w", who.name, err)
			}
			n := float64(m.Requests)
			did(recorded{
				Who: who.name, Calls: calls, Round: round, Rate: rate(m.Requests, m.Elapsed), P99: ms(m.P99),
				CPU: round3((after.CPU - before.CPU).Seconds() * 1e6 / n), Written: round3(float64(after.Written-before.Written) / 1024 / n),
			})
		}
	}
	if err := p.Stop(30 * time.Second); err != nil {
		return err
	}
	return errors.Join(c.Kill(), os.RemoveAll(dir))
}

func (r *records) of(who string, calls int, pick func(recorded) float64) (all []float64) {
	for _, f := range r.figures {
		if f.Who == who && f.Calls == calls {
			all = append(all, pick(f))
		}
	}
	return all
}

func (r *records) ratio(calls int) spread {
	rate := func(f recorded) float64 { return f.Rate }
	return ratios(r.of(ours, calls, rate), r.of(collector, calls, rate))
}

// recordLine is one line of the part's table.
type recordLine struct {
	Who     string `json:"who"`
	Calls   int    `json:"calls"`
	Rate    spread `json:"records_per_second"`
	P99     spread `json:"p99_ms"`
	CPU     spread `json:"cpu_us_per_record"`
	Written spread `json:"kib_written_per_record"`
}

func (r *records) lines() (lines []recordLine) {
	for _, calls := range r.calls() {
		for _, who := range []string{ours, collector} {
			pick := func(f func(recorded) float64) spread { return spreadOf(r.of(who, calls, f)) }
			lines = append(lines, recordLine{
				who, calls, pick(func(f recorded) float64 { return f.Rate }), pick(func(f recorded) float64 { return f.P99 }),
				pick(func(f recorded) float64 { return f.CPU }), pick(func(f recorded) float64 { return f.Written }),
			})
		}
	}
	return lines
}

func (r *records) print(w io.Writer, lines []recordLine) {
	fmt.Fprintf(w, "\nrecords of %d bytes taken over HTTP, durable when the answer leaves\n", payloadSize)
	fmt.Fprintf(w, "%-26s %-16s %-26s %-20s %-22s %s\n", "", "AT A TIME", "RECORDS/S", "P99 MS", "CPU µS/RECORD", "KIB WRITTEN")
	for _, l := range lines {
		fmt.Fprintf(w, "%-26s %-16d %-26s %-20s %-22s %.1f\n", l.Who, l.Calls, l.Rate.text("%.0f"), l.P99.text("%.1f"), l.CPU.text("%.0f"), l.Written.Median)
	}
}
