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
	// Changed grows with each change that is found of an organization's plan: by a greater
	// one, an entry that was stamped before may have another stamp.
	Changed() uint64
}

// stamp puts a stamp on a record. It reports false, and changes nothing, if delivery has
// to wait for it.
func (f *Forwarder) stamp(r *Record) (ok bool, err error) {
	if f.o.Stamper == nil {
		return true, nil
	}
	r.changed = f.o.Stamper.Changed()
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

// stampAnew gives records for a Keeper another stamp where they are kept longer by now,
// because a plan was found to have changed since they were stamped, and returns these. A
// batch waits for its store as long as that is down, and Keeping goes through what the
// store has at the time of a change: it cannot find what comes after. So this is called
// before a Write, or what is late might be taken for expired, and after it: a change that is
// found later finds them in the store. What is pending Keeping stamps anyway.
func (f *Forwarder) stampAnew(records []Record) (longer []Record) {
	if f.o.Stamper == nil || !f.o.StampApart {
		return nil
	}
	changed := f.o.Stamper.Changed()
	for i := range records {
		r := &records[i]
		if r.changed >= changed || r.Stamp == nil || r.Stamp.Pending || r.Stamp.Retention == nil {
			continue
		}
		r.changed = changed
		s := f.o.Stamper.Stamp(r.Entry)
		if s.Pending || s.Retention == nil || s.Retention.KeepMicros() <= r.Stamp.Retention.KeepMicros() {
			continue
		}
		// The organization that the first one has put on the entry is missing in the second.
		r.Stamp = r.Stamp.Merge(&s)
		r.Stamp.On(r.Entry)
		longer = append(longer, *r)
	}
	return longer
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
