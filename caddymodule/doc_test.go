package caddymodule

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestALookThatHangsOrPanicsIsNotKnown(t *testing.T) {
	hangs := make(chan struct{})
	defer close(hangs)
	for name, look := range map[string]func(context.Context) []diagnosis{
		"did not come to an end": func(context.Context) []diagnosis { <-hangs; return nil },
		"looking failed":         func(context.Context) []diagnosis { panic("a hostile answer") },
	} {
		list := check{"x", look}.run(t.Context(), 10*time.Millisecond)
		if len(list) != 1 || list[0].State != diagnosisNotKnown || !strings.Contains(list[0].Seen, name) {
			t.Errorf("%s: %+v", name, list)
		}
	}
}

// One that hangs or panics takes no answer of another away.
func TestAServiceThatHangsHidesNoOther(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	hangs := make(chan struct{})
	defer close(hangs)
	list := together(ctx, []question{
		{"hangs", func(context.Context) diagnosis { <-hangs; return fine("late") }},
		{"answers", func(context.Context) diagnosis { return fine("well") }},
		{"panics", func(context.Context) diagnosis { panic("a hostile answer") }},
		{"heeds", func(ctx context.Context) diagnosis { <-ctx.Done(); return wrong("slow") }},
	})
	for i, want := range []string{"hangs: there was no answer in time", "well", "panics: asking failed", "slow"} {
		if !strings.Contains(list[i].Seen, want) {
			t.Errorf("%d: %+v, want %q", i, list[i], want)
		}
	}
	many := make([]question, 3*maxAsking)
	for i := range many {
		many[i] = question{"hangs", func(context.Context) diagnosis { <-hangs; return fine("late") }}
	}
	for _, d := range together(ctx, many) {
		if d.State != diagnosisNotKnown {
			t.Errorf("%+v", d)
		}
	}
}

func TestAReportIsBounded(t *testing.T) {
	r := new(doctorReport)
	var list []diagnosis
	for range 100 {
		list = append(list, wrong("%s\n\x1b[31m", strings.Repeat("x", 1<<16)).mend("%s", strings.Repeat("é", 1<<16)))
	}
	r.add("calls", list)
	if len(r.Findings) != maxFindings+1 || r.Wrong != maxFindings || r.NotKnown != 1 {
		t.Errorf("%d findings, %d wrong", len(r.Findings), r.Wrong)
	}
	for _, f := range r.Findings {
		if len(f.Seen) > maxFindingText+8 || len(f.Cure) > maxFindingText+8 || strings.ContainsAny(f.Seen, "\n\x1b") {
			t.Fatalf("%q", f.Seen)
		}
	}
}
