package viewer

import (
	"context"
	"net/http"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const (
	// bucketsOf is into how many parts a range is divided, and mostValues how many values
	// of a facet are told.
	bucketsOf  = 60
	mostValues = 50
	// countAtMost bounds how long the API counts: others wait for it.
	countAtMost = 5 * time.Second
)

// counts is the answer of serveCounts.
type counts struct {
	// Total is how many entries pass all filters, Failed how many of them did not succeed.
	Total  int64 `json:"total"`
	Failed int64 `json:"failed"`
	// BucketUS is how much time a bucket has, in microseconds.
	BucketUS int64              `json:"bucket_us"`
	Buckets  []forwarder.Bucket `json:"buckets"`
	// Facets are the most frequent values of each, by the name of its filter.
	Facets map[forwarder.Facet][]forwarder.ValueCount `json:"facets"`

	// FacetsCut are those with more values than are told apart: one that came late may be
	// missing.
	FacetsCut []forwarder.Facet `json:"facets_cut,omitempty"`

	RetentionPeriod int        `json:"retention_period"`
	CompleteUntil   *time.Time `json:"complete_until,omitempty"`
	Gaps            []gap      `json:"gaps,omitempty"`
}

func (v *Viewer) serveCounts(w http.ResponseWriter, r *http.Request) error {
	in, _, q, err := v.asked(r)
	if err != nil {
		return err
	}
	// First, since what comes while it is counted may be counted or not.
	until, gaps, err := v.trust(r.Context(), &q)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), countAtMost)
	defer cancel()
	t, err := v.tally(ctx, in, q)
	if err != nil {
		return err
	}
	c := counts{
		CompleteUntil: until, Gaps: gaps,
		Total: t.Total, Failed: t.Failed, BucketUS: t.Width().Microseconds(), Buckets: t.Buckets,
		Facets: map[forwarder.Facet][]forwarder.ValueCount{}, RetentionPeriod: in.days,
	}
	for _, f := range forwarder.Facets {
		c.Facets[f] = t.Values(f, mostValues)
		if t.IsCut(f) {
			c.FacetsCut = append(c.FacetsCut, f)
		}
	}
	writeJSON(w, http.StatusOK, &c)
	return nil
}

// tally counts what a query selects, wherever its cursor is. It takes as long as the range
// has entries, and Options.Timeout at most. With an error it returns what it has counted.
//
// Few count at one time, so that calls on their way to the API keep half of the processors;
// and of one visitor one request, so that nobody waits for all of somebody else's.
func (v *Viewer) tally(ctx context.Context, in *visit, q forwarder.Query) (*forwarder.Tally, error) {
	leave, err := v.counted.admit(in.Visitor)
	if err != nil {
		return nil, err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, v.o.Timeout)
	defer cancel()
	q.After, q.Limit = forwarder.Place{}, 0
	t := forwarder.NewTally(&q, bucketsOf)
	select {
	case v.counts <- struct{}{}:
		defer func() { <-v.counts }()
	case <-ctx.Done():
		return t, ctx.Err()
	}
	b, err := v.shelf.take(ctx)
	if err != nil {
		return t, err
	}
	defer func() { v.shelf.give(b, isBroken(err)) }()
	for brief, readErr := range b.log.Briefs(ctx, forwarder.Unfiltered(q)) {
		if readErr != nil {
			err = readErr
			return t, err
		}
		t.Add(brief)
	}
	return t, nil
}
