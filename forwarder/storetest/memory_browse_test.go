package storetest

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// misread is a query as the store understands it that breaks the contract.
func (s *store) misread(q *forwarder.Query) {
	switch {
	case s.is("selects no user"):
		q.User = ""
	case s.is("takes To for included") && !q.To.IsZero():
		q.To = q.To.Add(time.Microsecond)
	case s.is("shows everybody's"):
		q.Owners = nil
	case s.is("tells members by filters what they do not see"):
		q.AsMember = false
	case s.is("takes calls for events"):
		q.Events = false
	case s.is("filters by no network"):
		q.Networks = nil
	case s.is("finds no text"):
		q.Text = ""
	case s.is("goes on at the last one again") && !q.After.IsZero():
		if q.After.ID += "\x00"; !q.NewestFirst {
			q.After.Timestamp--
		}
	}
}

// Briefs implements forwarder.Browser.
func (s *store) Briefs(ctx context.Context, q forwarder.Query) iter.Seq2[*audit.Brief, error] {
	return func(yield func(*audit.Brief, error) bool) {
		for doc, err := range s.Read(ctx, q) {
			if err != nil {
				yield(nil, err)
				return
			}
			e, err := audit.Decode(doc)
			if err != nil {
				yield(nil, err)
				return
			}
			b := e.Brief()
			if s.is("makes Attempts of Briefs") {
				b = b.Attempt()
			}
			if !yield(&b, nil) {
				return
			}
		}
	}
}

// Beats implements forwarder.Browser.
func (s *store) Beats(context.Context) (beats []forwarder.Beat, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	codes := []string{audit.EventHeartbeat, audit.EventStarted, audit.EventStopped}
	rows := s.sorted()
	if !s.is("takes the first sign of life for the last") {
		slices.Reverse(rows)
	}
	for _, r := range rows {
		e := r.entry
		if !e.IsEvent() && !s.is("takes a call for a sign of life") || !slices.Contains(codes, cmp.Or(e.Action.Code, codes[0])) ||
			slices.ContainsFunc(beats, func(b forwarder.Beat) bool { return b.Instance == e.Origin.Instance }) {
			continue
		}
		beats = append(beats, forwarder.Beat{Instance: e.Origin.Instance, At: time.UnixMicro(e.Timestamp), Stopped: e.Action.Code == audit.EventStopped})
	}
	return beats, nil
}
