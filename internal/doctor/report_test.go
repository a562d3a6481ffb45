package doctor

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestALookThatHangsOrPanicsIsNotKnown(t *testing.T) {
	hangs := make(chan struct{})
	defer close(hangs)
	for name, look := range map[string]func(context.Context) []Diagnosis{
		"did not come to an end": func(context.Context) []Diagnosis { <-hangs; return nil },
		"looking failed":         func(context.Context) []Diagnosis { panic("a hostile answer") },
	} {
		list := Check{"x", look}.one(t.Context(), 10*time.Millisecond)
		if len(list) != 1 || list[0].State != StateNotKnown || !strings.Contains(list[0].Seen, name) {
			t.Errorf("%s: %+v", name, list)
		}
	}
}

// One that hangs or panics takes no answer of another away.
func TestAServiceThatHangsHidesNoOther(t *testing.T) { synctest.Test(t, hangsHidesNoOther) }

func hangsHidesNoOther(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	hangs := make(chan struct{})
	defer close(hangs)
	list := Together(ctx, []Question{
		{"hangs", func(context.Context) Diagnosis { <-hangs; return Fine("late") }},
		{"answers", func(context.Context) Diagnosis { return Fine("well") }},
		{"panics", func(context.Context) Diagnosis { panic("a hostile answer") }},
		{"heeds", func(ctx context.Context) Diagnosis { <-ctx.Done(); return Wrong("slow") }},
	})
	for i, want := range []string{"hangs: there was no answer in time", "well", "panics: asking failed", "slow"} {
		if !strings.Contains(list[i].Seen, want) {
			t.Errorf("%d: %+v, want %q", i, list[i], want)
		}
	}
	many := make([]Question, 3*maxAsking)
	for i := range many {
		many[i] = Question{"hangs", func(context.Context) Diagnosis { <-hangs; return Fine("late") }}
	}
	for _, d := range Together(ctx, many) {
		if d.State != StateNotKnown {
			t.Errorf("%+v", d)
		}
	}
}

func TestAReportIsBounded(t *testing.T) {
	r := new(Report)
	var list []Diagnosis
	for range 100 {
		list = append(list, Wrong("%s\n\x1b[31m", strings.Repeat("x", 1<<16)).Mend("%s", strings.Repeat("é", 1<<16)))
	}
	r.Add("calls", list)
	if len(r.Findings) != maxFindings+1 || r.Wrong != maxFindings || r.NotKnown != 1 {
		t.Errorf("%d findings, %d wrong", len(r.Findings), r.Wrong)
	}
	for _, f := range r.Findings {
		if len(f.Seen) > maxFindingText+8 || len(f.Cure) > maxFindingText+8 || strings.ContainsAny(f.Seen, "\n\x1b") {
			t.Fatalf("%q", f.Seen)
		}
	}
}
