//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// cell is a load that each variant is put under.
type cell struct {
	Calls int           `json:"calls"` // in flight
	Delay time.Duration `json:"api_ns"`
	H2    bool          `json:"h2"`
	// Half is half of what plain managed in the same round, in calls that do not wait for
	// each other.
	Half bool `json:"half_load"`
}

func (c cell) String() string {
	protocol := "HTTP/1.1"
	if c.H2 {
		protocol = "h2"
	}
	text := fmt.Sprintf("%d calls at a time, %s, API of %g ms", c.Calls, protocol, ms(c.Delay))
	if c.Half {
		text += ", half load"
	}
	return text
}

// The cells of the table of bars.
var (
	full = cell{Calls: 64}
	half = cell{Calls: 64, Half: true}
)

// cells are all that are measured; half comes after full, whose rate it halves.
func cells(all bool) []cell {
	if !all {
		return []cell{full, half}
	}
	var out []cell
	for _, h2 := range []bool{false, true} {
		for _, delay := range []time.Duration{0, 5 * time.Millisecond} {
			for _, calls := range []int{1, 16, 64, 256} {
				out = append(out, cell{Calls: calls, Delay: delay, H2: h2})
			}
		}
	}
	return append(out, half)
}

// figures are what one variant did under one load in one round.
type figures struct {
	Variant string  `json:"variant"`
	Cell    cell    `json:"load"`
	Round   int     `json:"round"`
	Rate    float64 `json:"requests_per_second"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	// CPU is the build's own time per request while it served.
	CPU float64 `json:"cpu_us_per_request"`
	// Total is CPU with what was left to do afterwards: delivering to the
	// store. Requests that warmed up are in it, on both sides.
	Total   float64 `json:"cpu_us_per_request_delivered"`
	Written float64 `json:"kib_written_per_request"`
	Allocs  float64 `json:"allocations_per_request"`
	Bytes   float64 `json:"bytes_allocated_per_request"`
	// Commits are those of the buffer, for a thousand requests.
	Commits  float64 `json:"commits_per_1000_requests"`
	Resident float64 `json:"resident_mib"`
	Own      float64 `json:"resident_own_mib"`
}

// requests is the part that measures calls.
type requests struct {
	options
	setup   rig.Setup
	self    string // this program, for the load generator
	dir     string
	api     string
	shipped string
	chosen  []variant

	figures []figures
}

// life is a variant that runs.
type life struct {
	variant
	site *rig.Site
	proc *rig.Process
}

// read reads the Caddyfile that the variants are made of.
func (q *requests) read() error {
	b, err := os.ReadFile(q.setup.Caddyfile)
	if err != nil {
		return fmt.Errorf("reading the Caddyfile: %w", err)
	}
	q.shipped = string(b)
	return nil
}

func (q *requests) run(ctx context.Context) error {
	bar := rig.NewProgress("requests")
	all := cells(!q.Quick)
	done, of := 0, q.Rounds*len(q.chosen)*len(all)
	for round := 1; round <= q.Rounds; round++ {
		err := q.round(ctx, round, all, func(f figures) {
			done++
			bar.Step(done, of, fmt.Sprintf("%s, %s: %.0f/s", f.Variant, f.Cell, f.Rate))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// round has all variants alive, and puts one load after the other on each of them in turn:
// so those that are compared are seconds apart.
func (q *requests) round(ctx context.Context, round int, all []cell, did func(figures)) error {
	dir := filepath.Join(q.dir, "requests")
	var lives []*life
	defer func() {
		for _, l := range lives {
			l.proc.Kill()
		}
	}()
	for _, v := range q.chosen {
		l, err := q.start(ctx, v, filepath.Join(dir, strings.NewReplacer(" ", "-", ",", "").Replace(v.name)))
		if err != nil {
			return err
		}
		lives = append(lives, l)
	}
	rateOfPlain := 0.0
	for i, c := range all {
		turn := slices.Clone(lives)
		if (round+i)%2 == 0 {
			slices.Reverse(turn) // whatever being first or last is worth
		}
		for _, l := range turn {
			rate := 0.0
			if c.Half {
				rate = rateOfPlain / 2
			}
			f, err := q.measure(ctx, l, c, rate)
			if err != nil {
				return fmt.Errorf("measuring %s under %s in round %d: %w", l.name, c, round, err)
			}
			f.Round = round
			if l.name == plain.name && c == full {
				rateOfPlain = f.Rate
			}
			q.figures = append(q.figures, f)
			did(f)
		}
	}
	if round == q.Rounds && q.Profiles != "" {
		if err := q.profile(ctx, lives); err != nil {
			return err
		}
	}
	for _, l := range lives {
		if err := l.proc.Stop(30 * time.Second); err != nil {
			return err
		}
	}
	// A round must not find the disk fuller than the one before.
	return os.RemoveAll(dir)
}

func (q *requests) start(ctx context.Context, v variant, dir string) (*life, error) {
	text, err := v.caddyfile(q.shipped, filepath.Join(dir, "access.log"))
	if err != nil {
		return nil, err
	}
	setup := q.setup
	setup.Caddyfile = filepath.Join(dir, "Caddyfile")
	if v.gogc != "" {
		setup.Env = append(slices.Clone(setup.Env), "GOGC="+v.gogc)
	}
	site, err := rig.NewSite(setup, dir, q.api)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(setup.Caddyfile, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("writing the variant: %w", err)
	}
	if v.held {
		// A directory lies where the store's file belongs.
		if err := os.MkdirAll(filepath.Join(site.AuditDir(), "audit.db"), 0o700); err != nil {
			return nil, fmt.Errorf("holding the store: %w", err)
		}
	}
	p, err := site.Start(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.Ready(ctx, 30*time.Second); err != nil {
		p.Kill()
		return nil, err
	}
	// As of a server that has run for a while: its heap has its size, and its buffer's
	// first segment, which grows, has given way.
	if _, _, _, err := put(ctx, q.self, p.PID, load{Addr: site.Addr, Calls: full.Calls, Duration: q.Start}); err != nil {
		p.Kill()
		return nil, fmt.Errorf("warming %s up: %w", v.name, err)
	}
	return &life{variant: v, site: site, proc: p}, nil
}

// measure puts one load on a running variant.
func (q *requests) measure(ctx context.Context, l *life, c cell, rate float64) (figures, error) {
	before, err := l.recorded(ctx)
	if err != nil {
		return figures{}, err
	}
	at0, err := usageOf(l.proc.PID)
	if err != nil {
		return figures{}, err
	}
	counts0, err := l.counts(ctx)
	if err != nil {
		return figures{}, err
	}
	m, at1, at2, err := put(ctx, q.self, l.proc.PID, load{
		Addr: l.site.Addr, Calls: c.Calls, H2: c.H2, Delay: c.Delay, Rate: rate, Warmup: q.Warmup, Duration: q.Duration,
	})
	if err != nil {
		return figures{}, err
	}
	counts1, err := l.counts(ctx)
	if err != nil {
		return figures{}, err
	}
	if l.records() {
		// What is pending would burden the next measurement, and is part of
		// this one's price.
		if !l.held {
			if _, err := l.site.Drain(ctx, 2*time.Minute); err != nil {
				return figures{}, err
			}
		}
		after, err := l.recorded(ctx)
		if err != nil {
			return figures{}, err
		}
		if got := after - before; got != m.All {
			return figures{}, fmt.Errorf("%d requests were answered and %d recorded, so that the figures would mean nothing", m.All, got)
		}
	}
	at3, err := usageOf(l.proc.PID)
	if err != nil {
		return figures{}, err
	}
	n, all := float64(m.Requests), float64(m.All)
	return figures{
		Variant: l.name, Cell: c,
		Rate: round3(n / m.Elapsed.Seconds()),
		P50:  ms(m.P50), P99: ms(m.P99),
		CPU:     round3((at2.CPU - at1.CPU).Seconds() * 1e6 / n),
		Total:   round3((at3.CPU - at0.CPU).Seconds() * 1e6 / all),
		Written: round3(float64(at3.Written-at0.Written) / 1024 / all),
		Allocs:  round3((counts1.objects - counts0.objects) / all), Bytes: round3((counts1.bytes - counts0.bytes) / all),
		Commits:  round3((counts1.commits - counts0.commits) / all * 1000),
		Resident: round3(float64(at2.Resident) / (1 << 20)), Own: round3(float64(at2.Own) / (1 << 20)),
	}, nil
}

// recorded is how many calls have an entry.
func (l *life) recorded(ctx context.Context) (uint64, error) {
	if !l.records() {
		return 0, nil
	}
	// Nobody waits for a relaxed one.
	st, err := l.site.Status(ctx)
	for range 100 {
		if err != nil || st.Calls.Open == 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
		st, err = l.site.Status(ctx)
	}
	return st.Calls.Recorded, err
}

// counted is what the build has allocated and committed since it began.
type counted struct{ objects, bytes, commits float64 }

// counts asks the build's metrics.
func (l *life) counts(ctx context.Context) (a counted, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.site.Metrics+"/metrics", http.NoBody)
	if err != nil {
		return a, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return a, fmt.Errorf("reading the metrics: %w", err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		return a, fmt.Errorf("reading the metrics: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		for name, to := range map[string]*float64{"go_memstats_mallocs_total ": &a.objects, "go_memstats_alloc_bytes_total ": &a.bytes, "caddy_audit_commits_total ": &a.commits} {
			if v, ok := strings.CutPrefix(line, name); ok {
				if *to, err = strconv.ParseFloat(strings.TrimSpace(v), 64); err != nil {
					return a, fmt.Errorf("reading the metrics: %w", err)
				}
			}
		}
	}
	return a, nil
}

// put runs the load generator and takes a process's usage when measuring
// starts and when it ends.
func put(ctx context.Context, self string, pid int, l load) (m measured, start, end usage, err error) {
	cmd := exec.CommandContext(ctx, self, l.args()...)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return m, start, end, err
	}
	if err := cmd.Start(); err != nil {
		return m, start, end, fmt.Errorf("starting the load generator: %w", err)
	}
	r := bufio.NewReader(pipe)
	if line, rerr := r.ReadString('\n'); rerr != nil || line != warm+"\n" {
		err = errors.Join(fmt.Errorf("starting the load generator: it says %q", line), rerr)
	} else if start, err = usageOf(pid); err == nil {
		err = json.NewDecoder(r).Decode(&m)
	}
	if err == nil {
		end, err = usageOf(pid)
	}
	if werr := cmd.Wait(); err == nil && werr != nil {
		err = fmt.Errorf("running the load generator: %w", werr)
	}
	switch {
	case err != nil:
	case m.Errors > 0:
		err = fmt.Errorf("%d callers failed, the first with: %s", m.Errors, m.Error)
	case m.Requests == 0:
		err = fmt.Errorf("no request was answered in %s", l.Duration)
	}
	return m, start, end, err
}

// profile keeps what each variant does under full load and under half of that, once more.
func (q *requests) profile(ctx context.Context, lives []*life) error {
	rates := q.of(plain, full, theRate)
	for _, c := range []cell{full, half} {
		what, rate := "", 0.0
		if c.Half {
			what, rate = ", half load", rates[len(rates)-1]/2
		}
		for _, l := range lives {
			name := filepath.Join(q.Profiles, "request "+l.name+what)
			profiled := make(chan error, 1)
			go func() {
				err := l.save(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", max(1, int(q.Duration.Seconds()))), name+".cpu.pprof")
				profiled <- errors.Join(err, l.save(ctx, "/debug/pprof/allocs", name+".allocs.pprof"))
			}()
			_, _, _, err := put(ctx, q.self, l.proc.PID, load{
				Addr: l.site.Addr, Calls: c.Calls, Rate: rate, Warmup: q.Warmup, Duration: q.Duration + time.Second,
			})
			if err := errors.Join(err, <-profiled); err != nil {
				return fmt.Errorf("profiling %s: %w", l.name, err)
			}
		}
	}
	return nil
}

func (l *life) save(ctx context.Context, path, to string) error {
	status, b, err := rig.NewAdmin(l.site).Do(ctx, http.MethodGet, path, "", nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the admin endpoint answers %d", status)
	}
	if err != nil {
		return fmt.Errorf("taking a profile: %w", err)
	}
	return os.WriteFile(to, b, 0o600)
}

// of are the figures of a variant under a load, by round.
func (q *requests) of(v variant, c cell, pick func(figures) float64) (all []float64) {
	for _, f := range q.figures {
		if f.Variant == v.name && f.Cell == c {
			all = append(all, pick(f))
		}
	}
	return all
}

// What is picked of figures.
var (
	theRate     = func(f figures) float64 { return f.Rate }
	theP50      = func(f figures) float64 { return f.P50 }
	theP99      = func(f figures) float64 { return f.P99 }
	theCPU      = func(f figures) float64 { return f.CPU }
	theTotal    = func(f figures) float64 { return f.Total }
	theWritten  = func(f figures) float64 { return f.Written }
	theCommits  = func(f figures) float64 { return f.Commits }
	theAllocs   = func(f figures) float64 { return f.Allocs }
	theResident = func(f figures) float64 { return f.Resident }
	theOwn      = func(f figures) float64 { return f.Own }
)

// summary is one line of the part's table.
type summary struct {
	Variant  string `json:"variant"`
	Cell     cell   `json:"load"`
	Rate     spread `json:"requests_per_second"`
	P50      spread `json:"p50_ms"`
	P99      spread `json:"p99_ms"`
	CPU      spread `json:"cpu_us_per_request"`
	Total    spread `json:"cpu_us_per_request_delivered"`
	Written  spread `json:"kib_written_per_request"`
	Allocs   spread `json:"allocations_per_request"`
	Commits  spread `json:"commits_per_1000_requests"`
	Resident spread `json:"resident_mib"`
	Own      spread `json:"resident_own_mib"`
	// Ratios to plain are taken within each round, and only then summed up.
	RateRatio spread `json:"rate_of_plain"`
	P99Ratio  spread `json:"p99_of_access_log"`
	// CPUExtra is the difference to plain in µs, likewise.
	CPUExtra spread `json:"cpu_us_above_plain"`
}

func (q *requests) lines() (lines []summary) {
	for _, c := range cells(!q.Quick) {
		for _, v := range q.chosen {
			pick := func(f func(figures) float64) spread { return spreadOf(q.of(v, c, f)) }
			lines = append(lines, summary{
				Variant: v.name, Cell: c,
				Rate: pick(theRate), P50: pick(theP50), P99: pick(theP99), CPU: pick(theCPU), Total: pick(theTotal), Written: pick(theWritten),
				Allocs: pick(theAllocs), Commits: pick(theCommits), Resident: pick(theResident), Own: pick(theOwn),
				RateRatio: ratios(q.of(v, c, theRate), q.of(plain, c, theRate)),
				P99Ratio:  ratios(q.of(v, c, theP99), q.of(access, c, theP99)),
				CPUExtra:  pairs(q.of(v, c, theCPU), q.of(plain, c, theCPU), func(a, b float64) float64 { return a - b }),
			})
		}
	}
	return lines
}

func (q *requests) print(w io.Writer, lines []summary) {
	for i, l := range lines {
		if i == 0 || l.Cell != lines[i-1].Cell {
			fmt.Fprintf(w, "\n%s\n", l.Cell)
		}

		if i == 0 || l.Cell != lines[i-1].Cell {
			fmt.Fprintln(w, columns("", "REQUESTS/S", "OF PLAIN", "P50 MS", "P99 MS", "CPU µS/REQUEST", "ABOVE PLAIN", "DELIVERED", "KIB WRITTEN", "COMMITS/1000", "ALLOCS", "RESIDENT MIB"))
		}
		fmt.Fprintln(w, columns(l.Variant, l.Rate.text("%.0f"), l.RateRatio.text("%.2f"), l.P50.text("%.1f"), l.P99.text("%.1f"),
			l.CPU.text("%.0f"), l.CPUExtra.text("%+.0f"), fmt.Sprintf("%.0f", l.Total.Median), fmt.Sprintf("%.1f", l.Written.Median), fmt.Sprintf("%.0f", l.Commits.Median), fmt.Sprintf("%.0f", l.Allocs.Median),
			fmt.Sprintf("%.0f", l.Resident.Median)))

	}
}

// columns makes a line of a table whose columns are as wide in every table.
func columns(texts ...string) string {
	width := []int{20, 22, 18, 16, 18, 18, 14, 11, 13, 14, 8, 12}
	var b strings.Builder
	for i, t := range texts {
		fmt.Fprintf(&b, "%-*s", width[i], t)
	}
	return strings.TrimRight(b.String(), " ")
}
