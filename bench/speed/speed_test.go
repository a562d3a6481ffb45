//go:build unix

package main

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if played, err := helper(os.Args[1:]); played {
		exit(err)
	}
	os.Exit(m.Run())
}

func TestQuantilesAreCloseToTheTruth(t *testing.T) {
	var a, b histogram
	for i := 1; i <= 100000; i++ {
		h := &a
		if i%2 == 0 {
			h = &b
		}
		h.add(time.Duration(i) * time.Microsecond)
	}
	a.merge(&b)
	for q, want := range map[float64]float64{0.5: 50e3, 0.99: 99e3} {
		if got := float64(a.quantile(q).Microseconds()); math.Abs(got-want)/want > 0.02 {
			t.Errorf("quantile %g: got %g µs, want %g", q, got, want)
		}
	}
}

func TestEveryStepStartsAtItsFloor(t *testing.T) {
	for _, v := range []uint64{0, 1, 63, 64, 65, 127, 128, 1000, 123456789, 1 << 40, math.MaxInt64} {
		s := step(v)
		if f := floor(s); f > v || step(f) != s {
			t.Errorf("%d: step %d with floor %d", v, s, f)
		}
	}
}

const shipped = `{
	admin {$ADMIN_LISTEN:unix/./admin.sock|0600} # a comment {
	servers {
		trusted_proxies_strict
	}
	audit_log {
		buffer {$AUDIT_DIR:./audit-data}/buffer {
			max_size 8GiB
		}
		# store postgres {env.AUDIT_DSN} {
		store sqlite {$AUDIT_DIR:./audit-data}/audit.db
	}
	metrics
}

http://:{$PORT:8080} {
	bind {$BIND:127.0.0.1}
	audit_log {
		platform {$PLATFORM:supabase}
	}
	reverse_proxy {$PLATFORM_API:127.0.0.1:9000}
}
`

func TestVariantsDifferInNothingElse(t *testing.T) {
	const without = `{
	admin {$ADMIN_LISTEN:unix/./admin.sock|0600} # a comment {
	servers {
		protocols h1 h2c
		trusted_proxies_strict
	}
	metrics
}

http://:{$PORT:8080} {
	bind {$BIND:127.0.0.1}
LOG	reverse_proxy {$PLATFORM_API:127.0.0.1:9000}
}
`
	with := strings.Replace(shipped, "\t\ttrusted", "\t\tprotocols h1 h2c\n\t\ttrusted", 1)
	for _, c := range []struct {
		variant variant
		want    string
	}{
		{plain, strings.Replace(without, "LOG", "", 1)},
		{access, strings.Replace(without, "LOG", "\tlog {\n\t\toutput file /d/access.log\n\t}\n", 1)},
		{unlisted, strings.Replace(with, "supabase}\n", "supabase}\n\t\trule * none\n", 1)},
		{strict, strings.Replace(with, "supabase}\n", "supabase}\n\t\trule * metadata strict\n", 1)},
	} {
		if got, err := c.variant.caddyfile(shipped, "/d/access.log"); err != nil || got != c.want {
			t.Errorf("%s: %v, got\n%s", c.variant.name, err, got)
		}
	}
	if _, err := plain.caddyfile("http://:80 {\n}\n", ""); err == nil {
		t.Error("a Caddyfile without audit_log was accepted: plain and ours would be the same")
	}
}

func TestRatiosAreTakenWithinARound(t *testing.T) {
	r := new(runner)
	// A slow round and a fast one; ours is at 0.9 of plain in both.
	for round, rate := range []float64{1000, 4000} {
		r.requests.figures = append(r.requests.figures,
			figures{Variant: plain.name, Cell: full, Round: round, Rate: rate, CPU: 200},
			figures{Variant: access.name, Cell: full, Round: round, Rate: rate, CPU: 250},
			figures{Variant: answer.name, Cell: full, Round: round, Rate: rate * 0.9, CPU: 220})
	}
	bars := r.bars()
	if len(bars) == 0 || bars[0].Got != (spread{0.4, 0.4, 0.4}) || bars[0].verdict() != "aim" {
		t.Errorf("20 µs above plain against the access log's 50 should be 0.4: %+v", bars)
	}
	for _, b := range bars {
		if b.What == "throughput, answer / plain" && (b.Got != spread{0.9, 0.9, 0.9} || b.verdict() != "bar") {
			t.Errorf("got %+v, %s", b, b.verdict())
		}
	}
}

// What the files promise is what the buffer is held against, so they must keep it.
func TestFilesHoldWhatWasAppended(t *testing.T) {
	const callers, each = 8, 20
	for _, way := range ways {
		dir := t.TempDir()
		to, err := open(way, dir)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range each {
					if err := to.append(make([]byte, payloadSize)); err != nil {
						t.Errorf("%s: %v", way, err)
					}
				}
			})
		}
		wg.Wait()
		if err := to.close(); err != nil {
			t.Errorf("%s: %v", way, err)
		}
		if way != viaGrowing {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, "file"))
		if err != nil || info.Size() != callers*each*(payloadSize+8) {
			t.Errorf("%v, %d bytes", err, info.Size())
		}
	}
}

func TestPlainIsAlwaysAmongTheVariants(t *testing.T) {
	for names, want := range map[string][]variant{
		"": variants, "answer, strict delivering": {plain, answer, intended}, "plain,none": {plain, unlisted},
	} {
		if got, err := chosen(names); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %v, %v", names, got, err)
		}
	}
	if _, err := chosen("answers"); err == nil || !strings.Contains(err.Error(), "access log") {
		t.Errorf("what there is is not said: %v", err)
	}
}

func TestACurveIsDrawnToItsHighestPoint(t *testing.T) {
	c := curve{Of: "stores", Cost: "µs an entry", Points: []point{{1, spread{10, 9, 11}}, {2, spread{20, 19, 21}}, {4, spread{-1, -2, 0}}}}
	var b strings.Builder
	c.plot(&b)
	want := "\nµs an entry\n" +
		"            stores          1 " + strings.Repeat("█", 20) + strings.Repeat(" ", 20) + " 10.00 (9.00–11.00)\n" +
		"                            2 " + strings.Repeat("█", 40) + " 20.00 (19.00–21.00)\n" +
		"                            4 " + strings.Repeat(" ", 40) + " -1.00 (-2.00–0.00)\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
