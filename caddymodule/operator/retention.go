package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stores"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Retention is how long the entries of some stores are kept, and may be read.
type Retention struct {
	Stores stores.List
	// Keep is how long entries are kept; nil is for ever.
	Keep *audit.Keep
	// Readable is how far back they may be read; nil is all.
	Readable *audit.Readable
	// Plan is the plan that an entry's organization has now, as far as that is known, and else
	// the one that it had then.
	Plan func(*audit.Entry) string
}

// Terms are how long entries are kept; none are for ever.
func (k *Retention) Terms() *audit.Keep {
	if k.Keep == nil {
		return new(audit.Keep)
	}
	return k.Keep
}

// Preview is what retention has done to a store and is about to do.
type Preview struct {
	Store  string    `json:"store"`
	Before time.Time `json:"before"`
	// Classes are in the order in which they are tried, and behind them those that only
	// stored entries have.
	Classes []previewClass   `json:"classes"`
	Holds   []forwarder.Hold `json:"holds"`
	// NotKept are stores that do not enforce retention themselves.
	NotKept []string `json:"not_kept,omitempty"`
}

type previewClass struct {
	// Class is empty for entries that nobody has stamped yet.
	Class string `json:"class"`
	// Term is how long it keeps; empty for a class that the configuration does not have
	// any more: its entries go when it was said that they would.
	Term string `json:"term,omitempty"`
	forwarder.ClassTotal
	// Expiring are those of them that will be gone by then, those that a hold keeps
	// apart.
	Expiring      int64 `json:"expiring"`
	ExpiringBytes int64 `json:"expiring_bytes"`
	ExpiringHeld  int64 `json:"expiring_held,omitempty"`
}

// Preview looks at a ledger.
func (k *Retention) Preview(ctx context.Context, name string, before time.Time) (p Preview, err error) {
	l, name, err := k.Stores.OpenLedger(ctx, name)
	if err != nil {
		return p, err
	}
	defer l.Close()
	p = Preview{Store: name, Before: before, NotKept: k.Stores.NotKept(), Holds: []forwarder.Hold{}}
	keep := k.Terms()
	at := map[string]int{}
	class := func(name string) *previewClass {
		i, ok := at[name]
		if !ok {
			i = len(p.Classes)
			at[name] = i
			c := previewClass{Class: name, Term: keep.Term(name).String()}
			p.Classes = append(p.Classes, c)
		}
		return &p.Classes[i]
	}
	for _, name := range keep.Names() {
		class(name)
	}
	totals, err := l.Classes(ctx)
	if err != nil {
		return p, err
	}
	for _, t := range totals {
		class(t.Class).ClassTotal = t
	}
	expiring, err := l.Expiring(ctx, before)
	if err != nil {
		return p, err
	}
	for _, t := range expiring {
		c := class(t.Class)
		c.Expiring, c.ExpiringBytes, c.ExpiringHeld = t.Entries, t.Bytes, t.Held
	}
	holds, err := l.Holds(ctx)
	p.Holds = append(p.Holds, holds...)
	return p, err
}

// Explanation says why an entry is kept, and until when.
type Explanation struct {
	Store string `json:"store"`
	ID    string `json:"id"`
	// Found says that the store has the entry.
	Found   bool             `json:"found"`
	Arrived time.Time        `json:"arrived"`
	Entry   json.RawMessage  `json:"entry,omitempty"`
	Tag     *audit.Retention `json:"retention,omitempty"`
	// Term is what the entry's class keeps now, and KeptUntil the later of that and of
	// what was said when the entry was stored; absent is forever.
	Term      string     `json:"term,omitempty"`
	KeptUntil *time.Time `json:"kept_until,omitempty"`
	// Holds are those that keep it, whatever the time.
	Holds []forwarder.Hold `json:"holds,omitempty"`
	// ReadableUntil is until when the organization may read it by its plan; absent if it
	// always may, and Readable false if it may not now.
	Readable      bool       `json:"readable"`
	ReadableUntil *time.Time `json:"readable_until,omitempty"`
	// Receipts cover its arrival, where the store has it no more.
	Receipts []forwarder.Receipt `json:"receipts,omitempty"`
	Why      string              `json:"why"`
}

// arrivalOf is about when an entry arrived, by its id.
func arrivalOf(id string) (time.Time, error) {
	u, err := uuid.Parse(id)
	if err != nil || u.Version() != 7 {
		return time.Time{}, fmt.Errorf("%q is no entry's id: it is what the header Audit-Id says, as in 0198c0de-0000-7000-8000-000000000001", id)
	}
	ms := int64(0)
	for _, b := range u[:6] {
		ms = ms<<8 | int64(b)
	}
	return time.UnixMilli(ms).UTC(), nil
}

// idSlack is how far an entry's arrival may be from the time in its id.
const idSlack = 5 * time.Second

// Explain says why the entry of an id is kept, or what has become of it, as of a time. The store
// is that of a name, or the first that has a ledger.
func (k *Retention) Explain(ctx context.Context, name, id string, now time.Time) (x Explanation, err error) {
	at, err := arrivalOf(id)
	if err != nil {
		return x, err
	}
	l, name, err := k.Stores.OpenLedger(ctx, name)
	if err != nil {
		return x, err
	}
	defer l.Close()
	x = Explanation{Store: name, ID: id, Arrived: at}
	for doc, err := range l.Read(ctx, forwarder.Query{From: at.Add(-idSlack), To: at.Add(idSlack)}) {
		if err != nil {
			return x, err
		}
		e, err := audit.Decode(doc)
		if err != nil || e.ID != id {
			continue
		}
		x.Found, x.Entry, x.Arrived = true, slices.Clone(doc), time.UnixMicro(e.Timestamp).UTC()
		return x, k.explainFound(ctx, &x, l, e, now)
	}
	for r, err := range l.Receipts(ctx) {
		if err != nil {
			return x, err
		}
		if us := at.UnixMicro(); r.FirstArrival <= us+idSlack.Microseconds() && us-idSlack.Microseconds() <= r.LastArrival && len(x.Receipts) < 10 {
			x.Receipts = append(x.Receipts, r)
		}
	}
	if len(x.Receipts) == 0 {
		x.Why = "the store has no such entry, and no receipt says that one of that time has expired: it never came, or it is lost: see caddy audit verify"
	} else {
		x.Why = "the store has no such entry; the receipts are for entries that arrived at that time and have expired"
	}
	return x, nil
}

func (k *Retention) explainFound(ctx context.Context, x *Explanation, l forwarder.Ledger, e *audit.Entry, now time.Time) error {
	holds, err := l.Holds(ctx)
	if err != nil {
		return err
	}
	for _, h := range holds {
		if h.Selects(e) {
			x.Holds = append(x.Holds, h)
		}
	}
	from, ok := time.Time{}, true
	if k.Readable != nil && e.OrganizationID+e.OrganizationSlug != "" {
		plan := k.Plan(e)
		if from, ok = k.Readable.From(plan, now); ok && !from.IsZero() {
			until := k.Readable.Of(plan).Term.End(x.Arrived)
			x.ReadableUntil = &until
		}
	}
	x.Readable = ok && !x.Arrived.Before(from)
	if x.Tag = e.Retention; x.Tag == nil {
		x.Why = "nobody has said yet how long it is kept, so it stays"
		return nil
	}
	keep := k.Terms()
	term := keep.Term(e.Retention.Class)
	x.Term = term.String()
	until := max(e.Retention.KeepMicros(), keep.Until(e.Retention.Class, e.Timestamp))
	if until != audit.ForeverMicros {
		t := time.UnixMicro(until).UTC()
		x.KeptUntil = &t
	}
	switch {
	case len(x.Holds) > 0:
		x.Why = fmt.Sprintf("hold %s keeps it, whatever its class says", x.Holds[0].ID)
	case x.KeptUntil == nil:
		x.Why = fmt.Sprintf("class %s keeps its entries forever", e.Retention.Class)
	case term.IsZero():
		x.Why = fmt.Sprintf("class %s is not in the configuration any more; it is kept for as long as was said when it was stored", e.Retention.Class)
	case e.Retention.KeepMicros() > keep.Until(e.Retention.Class, e.Timestamp):
		x.Why = fmt.Sprintf("class %s keeps for %s now; when it was stored it was more, and that only ever grows", e.Retention.Class, term)
	default:
		x.Why = fmt.Sprintf("class %s keeps for %s after the arrival, up to the beginning of the second day after that", e.Retention.Class, term)
	}
	return nil
}

// EachReceipt calls emit for each receipt of a ledger, as a line of JSON.
func EachReceipt(ctx context.Context, l forwarder.Ledger, emit func([]byte) error) error {
	for receipt, err := range l.Receipts(ctx) {
		if err != nil {
			return err
		}
		line, err := json.Marshal(receipt)
		if err == nil {
			err = emit(line)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
