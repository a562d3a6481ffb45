package forwarder

import (
	"context"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// Stamper says whose an entry is and how long it is kept. It is safe for concurrent use,
// and but for Await it never waits.
type Stamper interface {
	// Stamp is what is known now. Pending says that somebody is being asked: what is said
	// of the same entry later may be another stamp.
	Stamp(e *audit.Entry) audit.Stamp
	// Await returns when the entry's stamp is not pending any more, or ctx is done.
	Await(ctx context.Context, e *audit.Entry)
	// Settled is Stamp for good: what is not known by now stays unknown.
	Settled(e *audit.Entry) audit.Stamp
}

// stamp puts a stamp on a record. It reports false, and changes nothing, if delivery has
// to wait for it.
func (f *Forwarder) stamp(r *Record) (ok bool, err error) {
	if f.o.Stamper == nil {
		return true, nil
	}
	s := f.o.Stamper.Stamp(r.Entry)
	if s.Pending && !f.o.StampLater {
		if f.stampTime(r.Entry) > 0 {
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

// stampTime is for how long an entry's stamp may be waited for. One that arrived in the
// future, because the clock was put back, has no age to go by.
func (f *Forwarder) stampTime(e *audit.Entry) time.Duration {
	age := time.Since(time.UnixMicro(e.Timestamp))
	if age < -f.o.StampWait {
		return 0
	}
	return f.o.StampWait - age
}

// stampOf waits until an entry can be stamped, or ctx ends.
func (f *Forwarder) stampOf(ctx context.Context, e *audit.Entry) {
	ctx, cancel := context.WithTimeout(ctx, f.stampTime(e))
	defer cancel()
	f.o.Stamper.Await(ctx, e)
}
