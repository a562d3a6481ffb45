package forwarder

import (
	"context"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// Stamper says whose an entry is and how long it is kept. It is safe for concurrent use
// and never waits.
type Stamper interface {
	// Stamp is what is known now. Pending says that somebody is being asked: what is said
	// of the same entry later may be another stamp.
	Stamp(e *audit.Entry) audit.Stamp
	// Settled is Stamp for good: what is not known by now stays unknown.
	Settled(e *audit.Entry) audit.Stamp
}

// stampPoll is how often a pending stamp is looked at.
const stampPoll = 50 * time.Millisecond

// stamp puts a stamp on a record. It reports false, and changes nothing, if delivery has
// to wait for it.
func (f *Forwarder) stamp(r *Record) (ok bool, err error) {
	if f.o.Stamper == nil {
		return true, nil
	}
	s := f.o.Stamper.Stamp(r.Entry)
	if s.Pending && !f.o.StampLater {
		if time.Since(time.UnixMicro(r.Entry.Timestamp)) < f.o.StampWait {
			return false, nil
		}
		s = f.o.Stamper.Settled(r.Entry)
	}
	return true, f.putStamp(r, s)
}

func (f *Forwarder) putStamp(r *Record, s audit.Stamp) (err error) {
	s.On(r.Entry)
	r.Stamp = &s
	if !f.o.StampApart {
		r.JSON, err = s.AppendTo(r.JSON)
	}
	return err
}

// stampOf waits until an entry can be stamped, or ctx ends.
func (f *Forwarder) stampOf(ctx context.Context, e *audit.Entry) {
	tick := time.NewTicker(stampPoll)
	defer tick.Stop()
	for f.o.Stamper.Stamp(e).Pending && time.Since(time.UnixMicro(e.Timestamp)) < f.o.StampWait {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
