package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.InTempDir("backlog", m.Run)) }

// good are figures with which every bound holds.
func good() *result {
	return &result{
		opens: []float64{20, 30, 40}, DrainOwn: 200,
		Full:  turns{readies: []float64{300, 310, 320}, firsts: []float64{320, 350, 900}, rates: []float64{900, 1100, 2000}, OwnAtStart: 60, OwnUnderLoad: 80},
		Empty: turns{readies: []float64{300, 310, 320}, firsts: []float64{310, 330, 400}, rates: []float64{1000, 1000, 4000}, OwnAtStart: 15, OwnUnderLoad: 30},
	}
}

func TestFiguresAreSummedUp(t *testing.T) {
	r := good()
	r.summarize()
	if len(r.Broken) > 0 || r.FirstCall != 20 || r.Open != (spread{30, 20, 40}) || r.Append != (spread{0.9, 0.5, 1.1}) || r.Full.Rate.Median != 1100 {
		t.Errorf("got %+v", r)
	}
	var out bytes.Buffer
	r.print(&out)
	if s := out.String(); !strings.Contains(s, "0.90 (0.50–1.10)") || strings.Contains(s, "problem") {
		t.Errorf("got\n%s", s)
	}
}

func TestABoundThatDoesNotHoldIsNoticed(t *testing.T) {
	for name, spoil := range map[string]func(*result){
		"one slow open":         func(r *result) { r.opens[1] = 1001 },
		"late first calls":      func(r *result) { r.Full.firsts = []float64{1400, 1400, 500} },
		"memory after a start":  func(r *result) { r.Full.OwnAtStart = 150 },
		"memory under load":     func(r *result) { r.Full.OwnUnderLoad = 160 },
		"memory while it reads": func(r *result) { r.DrainOwn = 600 },
	} {
		r := good()
		spoil(r)
		r.summarize()
		if len(r.Broken) != 1 {
			t.Errorf("%s: got %q", name, r.Broken)
		}
	}
}
