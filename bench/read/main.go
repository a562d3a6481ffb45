//go:build unix

// Command read measures what readers wait for: it fills a store with what a thousand
// organizations do in a month, and asks a viewer over it, by HTTP.
//
// For each kind of question it prints how long the answers took: for the organization that
// does most of all, and for others. It prints how much memory an export took, and how much
// it needs at its end beyond what it had at a tenth.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/postgres"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/sqlite"
	"github.com/caddy-audit-log/caddy-audit-log/internal/pgtest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/sample"
	"github.com/caddy-audit-log/caddy-audit-log/viewer"
)

var (
	flagEntries       = flag.Int("entries", 5_000_000, "how many entries the store has")
	flagOrganizations = flag.Int("organizations", 1000, "of how many organizations")
	flagStore         = flag.String("store", "sqlite", "sqlite or postgres")
	flagAsks          = flag.Int("asks", 200, "how often each question is asked; 0 asks none, and only exports")
	flagDir           = flag.String("dir", "", "where the SQLite file is kept for another run, if there is one already it is read; default: a temporary directory")
)

const (
	span    = 30 * 24 * time.Hour
	timeout = time.Minute // of an answer
)

// errLate is that an answer was not there in time.
var errLate = errors.New("it took too long")

func main() {
	flag.Parse()
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "read:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	until := time.Now().Truncate(time.Hour)
	open, err := prepare(ctx, until)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, open.close()) }()
	v, err := viewer.New(viewer.Options{Open: open.log, Gate: gate{}, Record: func(*audit.Entry) error { return nil }, Timeout: timeout})
	if err != nil {
		return err
	}
	server := httptest.NewServer(v)
	defer func() {
		server.Close()
		err = errors.Join(err, v.Close())
	}()
	r := &reader{base: server.URL, until: until, rng: rand.New(rand.NewPCG(1, 2))}
	if *flagAsks > 0 {
		if err := r.questions(ctx); err != nil {
			return err
		}
	}
	return r.export(ctx)
}

// opened is a store that has been filled.
type opened struct {
	log   func(ctx context.Context) (viewer.Log, error)
	close func() error
}

// prepare fills a store, unless it is there already.
func prepare(ctx context.Context, until time.Time) (o opened, err error) {
	log := slog.New(slog.DiscardHandler)
	if *flagStore == "postgres" {
		server, err := pgtest.Start(nil)
		if err != nil {
			return o, err
		}
		config := postgres.Config{DSN: func() (string, error) { return server.DSN(nil), nil }}
		s, err := postgres.Open(ctx, config, log)
		if err != nil {
			return o, errors.Join(err, server.Close())
		}
		o.log = func(ctx context.Context) (viewer.Log, error) {
			return postgres.OpenReader(ctx, config)
		}
		o.close = func() error { return errors.Join(s.Close(), server.Close()) }
		return o, fill(ctx, s, until)
	}
	dir := *flagDir
	o.close = func() error { return nil }
	if dir == "" {
		if dir, err = os.MkdirTemp("", "read-"); err != nil {
			return o, err
		}
		o.close = func() error { return os.RemoveAll(dir) }
	}
	path := filepath.Join(dir, "audit.db")
	o.log = func(ctx context.Context) (viewer.Log, error) { return sqlite.OpenReader(ctx, path) }
	_, there := os.Stat(path)
	s, err := sqlite.Open(ctx, sqlite.Config{Path: path}, log)
	if err != nil {
		return o, err
	}
	if there != nil {
		err = fill(ctx, s, until)
	}
	began := time.Now()
	err = errors.Join(err, s.Summarize(ctx))
	fmt.Printf("the rest was summarized in %s\n", time.Since(began).Round(100*time.Millisecond))
	return o, errors.Join(err, s.Close())
}

func fill(ctx context.Context, s forwarder.Store, until time.Time) error {
	began := time.Now()
	to := sample.Writer{Store: s, Instance: "0198c0de-0000-7000-8000-000000000002"}
	n := 0
	for e, stamp := range sample.Entries(sample.Options{Organizations: *flagOrganizations, Entries: *flagEntries, Until: until, Span: span, Seed: 1}) {
		if _, err := to.Add(ctx, e, stamp); err != nil {
			return err
		}
		if n++; n%100_000 == 0 {
			fmt.Fprintf(os.Stderr, "%d entries after %s\n", n, time.Since(began).Round(time.Second))
		}
	}
	if err := to.Flush(ctx); err != nil {
		return err
	}
	fmt.Printf("%d entries of %d organizations, written in %s\n", n, *flagOrganizations, time.Since(began).Round(time.Second))
	return nil
}

// gate lets everybody read as a member of whatever they ask for.
type gate struct{}

func (gate) Visitor(*http.Request) (*viewer.Visitor, error) {
	return &viewer.Visitor{Actor: audit.Actor{TokenType: audit.TokenJWT, Verification: audit.VerificationSignature, UserID: "reader"}}, nil
}

func (gate) Grant(_ context.Context, _ *viewer.Visitor, slug string) (*viewer.Grant, error) {
	for n := range *flagOrganizations {
		if o := sample.OrganizationOf(n); o.Slug == slug {
			return &viewer.Grant{ID: o.ID, Slug: slug, Owners: []audit.Owner{audit.OwnerByID(o.ID), audit.OwnerBySlug(slug)}}, nil
		}
	}
	return nil, viewer.ErrNoPermission
}

type reader struct {
	base  string
	until time.Time
	rng   *rand.Rand
}

// question is asked of an organization.
type question struct {
	name  string
	query url.Values
}

// theRange is the whole month.
func (r *reader) theRange() url.Values {
	return url.Values{"iso_timestamp_start": {r.until.Add(-span).UTC().Format(time.RFC3339)}, "iso_timestamp_end": {r.until.UTC().Format(time.RFC3339)}}
}

func (r *reader) with(name, value string) url.Values {
	q := r.theRange()
	q.Set("limit", "50")
	if name != "" {
		q.Set(name, value)
	}
	return q
}

func (r *reader) questions(ctx context.Context) error {
	all := []question{
		{"newest page", r.with("", "")},
		{"actor, common", r.with("actor", "")},
		{"actor, nobody", r.with("actor", "nobody@example.com")},
		{"project, none", r.with("project", "aaaaaaaaaaaaaaaaaaaa")},
		{"action, rare", r.with("action", "v1-delete-a-project")},
		{"action, none", r.with("action", "v1-no-such-action")},
		{"method", r.with("method", "DELETE")},
		{"target type", r.with("target", "branch")},
		{"target, none", r.with("target", "edge_function/no-such")},
		{"token type", r.with("token_type", "oauth")},
		{"outcome", r.with("outcome", "denied")},
		{"status, rare", r.with("status", "503")},
		{"network, none", r.with("ip", "100.64.0.0/10")},
		{"token hash, none", r.with("token_hash", strings.Repeat("ab", 32))},
		{"text, common", r.with("text", "function")},
		{"text, none", r.with("text", "no-such-text")},
	}
	fmt.Printf("\n%-20s %28s %28s\n", "of a month, 50 rows", "the busiest: median p99 max", "others: median p99 max")
	for _, q := range all {
		busiest, err := r.ask(ctx, q, func() int { return 0 })
		if err != nil {
			return err
		}
		others, err := r.ask(ctx, q, func() int { return 1 + r.rng.IntN(*flagOrganizations-1) })
		if err != nil {
			return err
		}
		fmt.Printf("%-20s %28s %28s\n", q.name, busiest, others)
	}
	day := url.Values{"iso_timestamp_start": {r.until.Add(-24 * time.Hour).UTC().Format(time.RFC3339)}, "iso_timestamp_end": {r.until.UTC().Format(time.RFC3339)}}
	for _, c := range []struct {
		name, path string
		query      url.Values
	}{
		{"counts of a day", "/platform/organizations/%s/audit/counts", day},
		{"counts of a month", "/platform/organizations/%s/audit/counts", r.theRange()},
		{"page of a day", "/organizations/%s/audit", day},
		{"page of a month", "/organizations/%s/audit", r.theRange()},
	} {
		n := max(*flagAsks/10, 5)
		busiest, err := r.times(ctx, n, func() string { return fmt.Sprintf(c.path, sample.OrganizationOf(0).Slug) + "?" + c.query.Encode() })
		if err != nil {
			return err
		}
		others, err := r.times(ctx, n, func() string {
			return fmt.Sprintf(c.path, sample.OrganizationOf(1+r.rng.IntN(*flagOrganizations-1)).Slug) + "?" + c.query.Encode()
		})
		if err != nil {
			return err
		}
		fmt.Printf("%-20s %28s %28s\n", c.name, busiest, others)
	}
	return nil
}

func (r *reader) ask(ctx context.Context, q question, organization func() int) (string, error) {
	return r.times(ctx, *flagAsks, func() string {
		n := organization()
		o := sample.OrganizationOf(n)
		query := q.query
		if q.name == "actor, common" {
			query = r.with("actor", sample.EmailOf(n, 0))
		}
		return "/platform/organizations/" + o.Slug + "/audit?" + query.Encode()
	})
}

// times asks so often, after a few times that do not count.
func (r *reader) times(ctx context.Context, n int, path func() string) (string, error) {
	var all []time.Duration
	for i := range n + 3 {
		began := time.Now()
		if _, err := r.get(ctx, path(), io.Discard); errors.Is(err, errLate) {
			return "none within " + timeout.String(), nil
		} else if err != nil {
			return "", err
		}
		if i >= 3 {
			all = append(all, time.Since(began))
		}
	}
	slices.Sort(all)
	round := func(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
	return fmt.Sprintf("%s %s %s", round(all[len(all)/2]), round(all[(len(all)*99-1)/100]), round(all[len(all)-1])), nil
}

func (r *reader) get(ctx context.Context, path string, to io.Writer) (n int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+path, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if n, err = io.Copy(to, resp.Body); err != nil {
		return n, err
	}
	if resp.StatusCode == http.StatusServiceUnavailable {
		return n, errLate
	}
	if resp.StatusCode != http.StatusOK {
		return n, fmt.Errorf("asking %s: %s", path, resp.Status)
	}
	return n, nil
}

// export takes the busiest organization's month away, and looks at the memory meanwhile.
func (r *reader) export(ctx context.Context) error {
	fmt.Println()
	for _, format := range []string{"ndjson", "csv", "json", "ocsf"} {
		query := r.theRange()
		query.Set("format", format)
		m := newMeter()
		began := time.Now()
		n, err := r.get(ctx, "/platform/organizations/"+sample.OrganizationOf(0).Slug+"/audit/export?"+query.Encode(), m)
		if err != nil {
			return err
		}
		took := time.Since(began)
		fmt.Printf("export as %-7s %d lines, %d MiB in %s, %.0f lines/s; heap in use: first %d MiB, most %d MiB, last %d MiB\n", format, m.lines, n>>20, took.Round(time.Millisecond),
			float64(m.lines)/took.Seconds(), m.first>>20, m.most>>20, m.last>>20)
	}
	return nil
}

// meter counts lines and, every few megabytes, looks at the heap after a collection.
type meter struct {
	lines, bytes      int
	first, most, last uint64
}

func newMeter() *meter { return new(meter) }

func (m *meter) Write(b []byte) (int, error) {
	const every = 32 << 20
	for _, c := range b {
		if c == '\n' {
			m.lines++
		}
	}
	if before := m.bytes / every; (m.bytes+len(b))/every != before || m.bytes == 0 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		if m.first == 0 {
			m.first = s.HeapInuse
		}
		m.most, m.last = max(m.most, s.HeapInuse), s.HeapInuse
	}
	m.bytes += len(b)
	return len(b), nil
}
