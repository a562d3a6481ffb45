package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"strings"
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
	const want = `{
	admin {$ADMIN_LISTEN:unix/./admin.sock|0600} # a comment {
	metrics
}

http://:{$PORT:8080} {
	bind {$BIND:127.0.0.1}
LOG	reverse_proxy {$PLATFORM_API:127.0.0.1:9000}
}
`
	for name, text := range map[string]string{
		plain:  strings.Replace(want, "LOG", "", 1),
		access: strings.Replace(want, "LOG", "\tlog {\n\t\toutput file /d/access.log\n\t}\n", 1),
		ours:   shipped,
	} {
		if got, err := variant(name, shipped, "/d/access.log"); err != nil || got != text {
			t.Errorf("%s: %v, got\n%s", name, err, got)
		}
	}
	if _, err := variant(plain, "http://:80 {\n}\n", ""); err == nil {
		t.Error("a Caddyfile without audit_log was accepted: plain and ours would be the same")
	}
}

func TestRatiosAreTakenWithinARound(t *testing.T) {
	var r result
	// A slow round and a fast one; ours is at 0.9 of plain in both.
	for round, rate := range []float64{1000, 4000} {
		for _, m := range methods {
			r.Figures = append(r.Figures,
				figures{Variant: plain, Method: m, Round: round, Rate: rate, CPU: 200},
				figures{Variant: access, Method: m, Round: round, Rate: rate, CPU: 250},
				figures{Variant: ours, Method: m, Round: round, Rate: rate * 0.9, CPU: 220})
		}
	}
	r.summarize()
	l := r.Lines[2]
	if l.Variant != ours || l.RateRatio != (spread{0.9, 0.9, 0.9}) || l.CPUExtra.Median != 20 || l.Rate.Median != 2250 {
		t.Errorf("got %+v", l)
	}
}

func TestThroughputOfTheRunningBuild(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs cmd/caddy")
	}
	var out bytes.Buffer
	err := throughput(t.Context(), options{Rounds: 1, Conns: 8, Warmup: 100 * time.Millisecond, Duration: 300 * time.Millisecond, Syncs: 5}, &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var res result
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &res); err != nil || len(res.Lines) != 6 || res.Lines[0].Rate.Median <= 0 {
		t.Errorf("%v: the last line is no result: %s", err, lines[len(lines)-1])
	}
}
