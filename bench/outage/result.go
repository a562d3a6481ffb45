package main

import "github.com/caddy-audit-log/caddy-audit-log/bench/internal/oracle"

// result is what one trial found. The fields from Unanswered on are 0 when the
// promise held.
type result struct {
	Name  string `json:"trial"`
	Calls int    `json:"calls"`
	Acked int    `json:"acked"`
	// DownSeconds is how long the store was away, DrainSeconds how long everything
	// took to be delivered once no more calls came.
	DownSeconds  float64 `json:"down_seconds,omitempty"`
	DrainSeconds float64 `json:"drain_seconds"`
	// What answers took; it is for people and not judged.
	LatencyBefore latency `json:"before"`
	LatencyDuring latency `json:"during"`
	LatencyAfter  latency `json:"after"`
	// Waiting are by store the most entries that waited, by phase.
	Waiting map[string]map[string]uint64 `json:"waiting,omitempty"`
	// Samples are how often the conservation numbers were asked for.
	Samples int       `json:"samples"`
	Stores  []*ledger `json:"stores"`
	// Logged are by store the lines that tell of a failure's begin and end.
	Logged map[string][2]int `json:"logged,omitempty"`
	// Kills are those of the store's server.
	Kills int `json:"kills,omitempty"`
	// Leaders are how many of them met the leader of a cluster's stream.
	Leaders int `json:"leaders,omitempty"`
	// Toxics are what the network did, and how many entries got through it.
	Toxics []passage `json:"toxics,omitempty"`
	// Detached are the gaps that tell of a detached store, and Given what they name.
	Detached int    `json:"detached,omitempty"`
	Given    uint64 `json:"given,omitempty"`
	// Quarantined were listed, and then Retried or Dropped.
	Quarantined int `json:"quarantined,omitempty"`
	Retried     int `json:"retried,omitempty"`
	Dropped     int `json:"dropped,omitempty"`

	// Unanswered calls got no whole answer, Refused our own 503, WrongAnswers
	// another status than the API's.
	Unanswered   int `json:"unanswered"`
	Refused      int `json:"refused"`
	WrongAnswers int `json:"wrong_answers"`
	// NotConserved are the moments at which an equation did not hold.
	NotConserved int `json:"not_conserved"`
	// WrongLog are lines about failures that are missing, or too many.
	WrongLog int `json:"wrong_log"`
	// Forged are requests with a wrong signature, Reused those whose webhook-id had
	// come with other content.
	Forged int `json:"forged"`
	Reused int `json:"reused"`
	// NoOutage says that nothing ever waited, so that nothing was shown.
	NoOutage int `json:"no_outage"`
	// WrongGaps are gaps that do not say what they must.
	WrongGaps int `json:"wrong_gaps"`
	// WrongQuarantine are entries that are there and must not be, or the other way.
	WrongQuarantine int `json:"wrong_quarantine"`

	oracle.Problems
}

func (r *result) held() bool {
	sum := r.Unanswered + r.Refused + r.WrongAnswers + r.NotConserved + r.WrongLog + r.Forged + r.Reused + r.NoOutage + r.WrongGaps + r.WrongQuarantine
	for _, l := range r.Stores {
		if !l.held() {
			return false
		}
	}
	return sum == 0 && r.Acked > 0 && len(r.Stores) > 0
}

// passage is how much got through one bad network. Through a black hole nothing does, so
// it is not judged.
type passage struct {
	Type      string `json:"type"`
	Delivered uint64 `json:"delivered"`
}
