package viewer

import (
	"context"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const (
	// settling is how much older than a heartbeat what has arrived is in the store with
	// it: a call that is open for 30 s gets its entry, and some time goes by on its way.
	settling = 35 * time.Second
	// silent is after how much time a buffer that has stopped without a word is believed
	// to be gone for good.
	silent = 7 * 24 * time.Hour
	// maxGaps bounds the gaps that an answer tells, the last of which then stands for all
	// before it; gapLag is how long after its end one may be recorded.
	maxGaps = 100
	gapLag  = 7 * 24 * time.Hour
)

// gap is a time of which entries may be missing, as any reader may know it: how many they
// are is everybody's together.
type gap struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Why is the reason that the sidecar gave.
	Why string `json:"why,omitempty"`
}

// trust is what may be believed of a list: until when it is complete, and where it is not.
func (v *Viewer) trust(ctx context.Context, q *forwarder.Query) (until *time.Time, gaps []gap, err error) {
	ctx, cancel := context.WithTimeout(ctx, v.o.Timeout)
	defer cancel()
	b, err := v.shelf.take(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer func() { v.shelf.give(b, isBroken(err)) }()
	beats, err := b.log.Beats(ctx)
	if err != nil {
		return nil, nil, err
	}
	until = completeUntil(beats, time.Now())
	gaps, err = gapsOf(ctx, b.log, q, v.o.Store)
	return until, gaps, err
}

// completeUntil is until when everything that arrived at any sidecar is in the store; nil
// if no sign of life says so. One that was stopped has delivered what it had before it
// said so.
func completeUntil(beats []forwarder.Beat, now time.Time) *time.Time {
	var until time.Time
	for _, beat := range beats {
		switch at := beat.At.Add(-settling); {
		case beat.Stopped, now.Sub(beat.At) > silent:
		case until.IsZero(), at.Before(until):
			until = at
		}
	}
	if until.IsZero() {
		return nil
	}
	if until.After(now) {
		until = now
	}
	until = until.UTC().Truncate(time.Second)
	return &until
}

// gapsOf are those of a store that touch a query's range, newest first.
func gapsOf(ctx context.Context, log forwarder.Reader, q *forwarder.Query, store string) (gaps []gap, err error) {
	events := forwarder.Query{Events: true, From: q.From, NewestFirst: true}
	events.Actions = []string{audit.EventGap}
	if !q.To.IsZero() {
		events.To = q.To.Add(gapLag)
	}
	for doc, err := range log.Read(ctx, events) {
		if err != nil {
			return nil, err
		}
		e, err := audit.Decode(doc)
		if err != nil {
			continue
		}
		if of, ok := e.Action.Metadata["store"].(string); ok && store != "" && of != store {
			continue
		}
		g := gapOf(e)
		if (q.To.IsZero() || g.From.Before(q.To)) && !g.To.Before(q.From) {
			gaps = append(gaps, g)
		}
		if len(gaps) > maxGaps {
			return append(gaps[:maxGaps-1], more(gaps[maxGaps-1:], q)), nil
		}
	}
	return gaps, nil
}

// whyMore is the reason of a gap that stands for all that are not told.
const whyMore = "more"

// more is the gap that stands for some, and for all before them that a query could tell.
func more(gaps []gap, q *forwarder.Query) gap {
	g := gap{From: q.From.UTC(), To: gaps[0].To, Why: whyMore}
	for _, o := range gaps {
		if o.To.After(g.To) {
			g.To = o.To
		}
		if q.From.IsZero() && o.From.Before(g.From) {
			g.From = o.From
		}
	}
	return g
}

// gapOf reads a gap's facts. One that does not say when it began was noticed at once.
func gapOf(e *audit.Entry) gap {
	at := time.UnixMicro(e.Timestamp).UTC()
	g := gap{From: at, To: at}
	g.Why, _ = e.Action.Metadata["reason"].(string)
	for name, to := range map[string]*time.Time{"since": &g.From, "until": &g.To} {
		text, _ := e.Action.Metadata[name].(string)
		if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
			*to = t.UTC()
		}
	}
	return g
}
