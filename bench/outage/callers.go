package main

import (
	"slices"
	"time"
)

// callers looks for calls that noticed something.
func (s *stage) callers() {
	calls := s.o.Snapshot()
	s.Calls = len(calls)
	took := map[string][]time.Duration{}
	for id, c := range calls {
		switch {
		case c.Status == 0:
			s.Note(&s.Unanswered, "call %s (%s) got no answer; reached the API: %t", id, c, c.Reached)
			continue
		case c.Refused:
			s.Note(&s.Refused, "call %s (%s) was refused", id, c)
		case c.Status != c.API && c.API != 0:
			s.Note(&s.WrongAnswers, "call %s (%s) was answered with %d, and the API had answered %d", id, c, c.Status, c.API)
		}
		took[c.Phase] = append(took[c.Phase], c.Ended.Sub(c.Began))
	}
	for phase, to := range map[string]*latency{before: &s.LatencyBefore, during: &s.LatencyDuring, after: &s.LatencyAfter} {
		*to = latencyOf(took[phase])
	}
}

// latency is what answers took. The stub API itself takes up to 0.3 s for one in
// sixty.
type latency struct {
	Calls int     `json:"calls"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	Most  float64 `json:"slowest_ms"`
}

func latencyOf(took []time.Duration) latency {
	if len(took) == 0 {
		return latency{}
	}
	slices.Sort(took)
	at := func(part float64) float64 {
		return float64(took[int(part*float64(len(took)-1))].Microseconds()) / 1e3
	}
	return latency{len(took), at(0.5), at(0.99), at(1)}
}
