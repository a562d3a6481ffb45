package main

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// h2specModule builds h2spec. Its newest release that module proxies have is
// older than modules, so that its own dependencies would be whatever is newest
// on the day; here they are pinned.
const h2specModule = `module h2spec

go 1.26.0

require (
	github.com/fatih/color v1.19.0
	github.com/mattn/go-colorable v0.1.14
	github.com/mattn/go-isatty v0.0.20
	github.com/spf13/cobra v1.10.2
	github.com/spf13/pflag v1.0.9
	github.com/summerwind/h2spec v2.2.1+incompatible
	golang.org/x/net v0.62.0
	golang.org/x/sys v0.49.0
	golang.org/x/text v0.43.0
)
`

// installH2spec returns a built h2spec, from the cache if it is there.
func installH2spec(ctx context.Context, dir string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = dir
	}
	bin := filepath.Join(cache, "caddy-audit-log", "h2spec-2.2.1", "h2spec")
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	src := filepath.Join(dir, "h2spec-build")
	if err := os.MkdirAll(src, 0o700); err != nil {
		return "", fmt.Errorf("making a directory for h2spec: %w", err)
	}
	if err := os.WriteFile(filepath.Join(src, "go.mod"), []byte(h2specModule), 0o600); err != nil {
		return "", fmt.Errorf("writing the module of h2spec: %w", err)
	}
	// Built beside its place and renamed, so that two runs do not meet there.
	temporary := filepath.Join(src, "h2spec")
	cmd := exec.CommandContext(ctx, "go", "build", "-mod=mod", "-o", temporary, "github.com/summerwind/h2spec/cmd/h2spec")
	cmd.Dir, cmd.Env = src, append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building h2spec 2.2.1 (put one at %s, or leave h2spec out of -parts): %w: %s", bin, err, out)
	}
	if err := os.MkdirAll(filepath.Dir(bin), 0o750); err != nil {
		return "", fmt.Errorf("making the cache for h2spec: %w", err)
	}
	if err := os.Rename(temporary, bin); err != nil {
		return temporary, nil //nolint:nilerr // another file system: it is used where it is
	}
	return bin, nil
}

// cases are h2spec's, by name, and whether each passed.
type cases map[string]bool

// junit is what we read of h2spec's report.
type junit struct {
	Suites []struct {
		Package string `xml:"package,attr"`
		ID      string `xml:"id,attr"`
		Cases   []struct {
			Class   string    `xml:"classname,attr"`
			Failure *struct{} `xml:"failure"`
			Error   *struct{} `xml:"error"`
			Skipped *struct{} `xml:"skipped"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

func parseJUnit(b []byte) (cases, error) {
	var report junit
	if err := xml.Unmarshal(b, &report); err != nil {
		return nil, fmt.Errorf("reading h2spec's report: %w", err)
	}
	all := cases{}
	for _, s := range report.Suites {
		for i, c := range s.Cases {
			name := fmt.Sprintf("%s/%d %s", s.Package, i+1, c.Class)
			all[name] = c.Failure == nil && c.Error == nil && c.Skipped == nil
		}
	}
	if len(all) < 100 {
		return nil, fmt.Errorf("reading h2spec's report: %d cases are too few; it has more than 100", len(all))
	}
	return all, nil
}

func (s *server) h2spec(ctx context.Context, bin, dir string, overTLS bool) (cases, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	addr := s.plain
	if overTLS {
		addr = s.tls
	}
	h, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	report, err := os.CreateTemp(dir, "h2spec-*.xml")
	if err != nil {
		return nil, fmt.Errorf("making h2spec's report: %w", err)
	}
	_ = report.Close()
	args := []string{"--host", h, "--port", port, "--path", "/v1/projects/abcdefghijklmnopqrst/h2spec", "--timeout", "2", "--junit-report", report.Name()}
	if overTLS {
		args = append(args, "--tls", "--insecure")
	}
	out, err := exec.CommandContext(ctx, bin, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, fmt.Errorf("running h2spec: %w", err)
	}
	b, err := os.ReadFile(report.Name())
	if err != nil || len(b) == 0 {
		return nil, fmt.Errorf("running h2spec against %s: it left no report and said: %s", addr, out)
	}
	return parseJUnit(b)
}

// h2specResult is how both did.
type h2specResult struct {
	Over    string   `json:"over"`
	Cases   int      `json:"cases"`
	Failing []string `json:"failing"` // of the plain server
	Differ  []string `json:"differ"`
	Turns   int      `json:"turns"`
}

// h2specBoth runs both at the same time. A case differs if no result of it was
// ever seen of both: some depend on timing, so differences get further turns.
func h2specBoth(ctx context.Context, bin, dir string, plain, audited *server, overTLS bool) (h2specResult, error) {
	r := h2specResult{Over: h2c, Failing: []string{}, Differ: []string{}}
	if overTLS {
		r.Over = h2
	}
	for _, s := range []*server{plain, audited} {
		s.api.expect("", newRun(func(x *exchange) {
			x.body()
			x.answer("200 OK", "h2spec wants a body of some length", "Content-Type: text/plain")
		}))
	}
	var p, a []cases
	for r.Turns = 1; r.Turns <= 3; r.Turns++ {
		var got [2]cases
		var errs [2]error
		var wg sync.WaitGroup
		for i, s := range []*server{plain, audited} {
			wg.Go(func() { got[i], errs[i] = s.h2spec(ctx, bin, dir, overTLS) })
		}
		wg.Wait()
		if err := errors.Join(errs[:]...); err != nil {
			return r, err
		}
		p, a = append(p, got[0]), append(a, got[1])
		if r.Differ = differing(p, a); len(r.Differ) == 0 {
			break
		}
	}
	r.Turns = min(r.Turns, 3)
	last := p[len(p)-1]
	r.Cases = len(last)
	for _, name := range slices.Sorted(maps.Keys(last)) {
		if !last[name] {
			r.Failing = append(r.Failing, name)
		}
	}
	return r, nil
}

// differing are the cases of which no result was seen of both.
func differing(plain, audited []cases) []string {
	seen := func(all []cases, name string) (results map[bool]bool) {
		results = map[bool]bool{}
		for _, c := range all {
			if passed, ok := c[name]; ok {
				results[passed] = true
			}
		}
		return results
	}
	names := map[string]bool{}
	for _, c := range slices.Concat(plain, audited) {
		for name := range c {
			names[name] = true
		}
	}
	differ := []string{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		p, a := seen(plain, name), seen(audited, name)
		if !(p[true] && a[true]) && !(p[false] && a[false]) {
			differ = append(differ, name)
		}
	}
	return differ
}
