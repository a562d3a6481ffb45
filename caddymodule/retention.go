package caddymodule

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/uuid"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// retention is what deliveries need to stamp entries and to hold stores to that.
type retention struct {
	stamper  forwarder.Stamper // nil stamps nothing
	keep     *audit.Keep       // nil deletes nothing
	changes  func(after uint64) []forwarder.Change
	lastSeen time.Time
	buf      *buffer.Buffer
}

// retention is the configuration's, over a buffer.
func (a *App) retention(s *shared) retention {
	r := retention{stamper: s.directory, changes: s.changes, lastSeen: s.lastSeen, buf: s.buf}
	if a.Keep != nil {
		r.keep = &a.Keep.Keep
	}
	return r
}

// changes are the directory's, as a keeping asks for them.
func (s *shared) changes(after uint64) (all []forwarder.Change) {
	for _, c := range s.directory.Changes(after) {
		all = append(all, forwarder.Change{
			Number: c.Number, OrganizationID: c.OrganizationID, OrganizationSlug: c.OrganizationSlug, From: c.From, To: c.To,
		})
	}
	return all
}

// options are those of one store's keeping.
func (r retention) options(name string, log *slog.Logger) forwarder.KeepingOptions {
	return forwarder.KeepingOptions{
		Keep: r.keep, Stamper: r.stamper, Changes: r.changes, Notes: notes{r.buf, name}, LastSeen: r.lastSeen,
		Every: pruneEvery, LookEvery: lookEvery, Logger: log, OnPruned: func(p forwarder.Pruned) { observePruned(name, p) },
	}
}

// The pace of keeping; zero is its own. Tests are quicker.
var pruneEvery, lookEvery time.Duration

// ledgers calls do for each store that enforces retention and is open.
func (a *App) ledgers(do func(name string, d *delivery) error) error {
	a.mu.Lock()
	deliveries := slices.Clone(a.deliveries)
	a.mu.Unlock()
	for i, d := range deliveries {
		if d.keeping == nil {
			continue
		}
		if err := do(a.stores[i].name, d); err != nil {
			return err
		}
	}
	return nil
}

// notKept are the stores that do not enforce retention themselves.
func (a *App) notKept() (names []string) {
	for _, n := range a.stores {
		if !n.keeps() {
			names = append(names, n.name)
		}
	}
	return names
}

// openLedger opens the ledger of the store of a name, or of the first that has one.
func (a *App) openLedger(ctx context.Context, name string) (forwarder.LedgerCloser, string, error) {
	for _, n := range a.stores {
		if o, ok := n.open.(forwarder.LedgerOpener); ok && (name == "" || n.name == name) {
			l, err := o.OpenLedger(ctx)
			return l, n.name, err
		}
	}
	switch {
	case name == "":
		return nil, "", errors.New("none of the configured stores enforces retention itself: add one that does, such as sqlite or postgres")
	case a.has(name):
		return nil, "", fmt.Errorf("store %q does not enforce retention itself, so nothing can be told of it: sqlite and postgres do", name)
	}
	return nil, "", fmt.Errorf("the configuration has no store %q: it has %s", name, strings.Join(a.storeNames(), ", "))
}

// preview is what retention has done to a store and is about to do.
type preview struct {
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

// preview looks at a ledger.
func (a *App) preview(ctx context.Context, name string, before time.Time) (p preview, err error) {
	l, name, err := a.openLedger(ctx, name)
	if err != nil {
		return p, err
	}
	defer l.Close()
	p = preview{Store: name, Before: before, NotKept: a.notKept(), Holds: []forwarder.Hold{}}
	keep := a.keep()
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

// keep is how long entries are kept, by configuration.
func (a *App) keep() *audit.Keep {
	if a.Keep == nil {
		return new(audit.Keep)
	}
	return &a.Keep.Keep
}

// explanation says why an entry is kept, and until when.
type explanation struct {
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

func (a *App) explain(ctx context.Context, name, id string, now time.Time) (x explanation, err error) {
	at, err := arrivalOf(id)
	if err != nil {
		return x, err
	}
	l, name, err := a.openLedger(ctx, name)
	if err != nil {
		return x, err
	}
	defer l.Close()
	x = explanation{Store: name, ID: id, Arrived: at}
	for doc, err := range l.Read(ctx, forwarder.Query{From: at.Add(-idSlack), To: at.Add(idSlack)}) {
		if err != nil {
			return x, err
		}
		e, err := audit.Decode(doc)
		if err != nil || e.ID != id {
			continue
		}
		x.Found, x.Entry, x.Arrived = true, slices.Clone(doc), time.UnixMicro(e.Timestamp).UTC()
		return x, a.explainFound(ctx, &x, l, e, now)
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

func (a *App) explainFound(ctx context.Context, x *explanation, l forwarder.Ledger, e *audit.Entry, now time.Time) error {
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
	if a.Readable != nil && e.OrganizationID+e.OrganizationSlug != "" {
		plan := ""
		if e.Retention != nil {
			plan = e.Retention.Plan
		}
		if from, ok = a.Readable.From(plan, now); ok && !from.IsZero() {
			until := a.Readable.Of(plan).Term.End(x.Arrived)
			x.ReadableUntil = &until
		}
	}
	x.Readable = ok && !x.Arrived.Before(from)
	if x.Tag = e.Retention; x.Tag == nil {
		x.Why = "nobody has said yet how long it is kept, so it stays"
		return nil
	}
	keep := a.keep()
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

// serveRetention answers what `caddy audit retention` asks: a preview, or with an id why
// an entry is kept, or with receipts what has gone.
func (a *App) serveRetention(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	store := q.Get("store")
	var answer any
	var err error
	switch {
	case q.Has("id"):
		answer, err = a.explain(r.Context(), store, q.Get("id"), time.Now())
	case q.Has("receipts"):
		return a.serveReceipts(w, r)
	default:
		before := time.Now()
		if v := q.Get("before"); v != "" {
			if before, err = time.Parse(time.RFC3339, v); err != nil {
				return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: errors.New("before is not a time: write it as in 2026-01-31T00:00:00Z")}
			}
		}
		answer, err = a.preview(r.Context(), store, before)
	}
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(answer)
}

func (a *App) serveReceipts(w http.ResponseWriter, r *http.Request) error {
	l, _, err := a.openLedger(r.Context(), r.URL.Query().Get("store"))
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	defer l.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	return stream(w, func(emit func([]byte) error) error {
		return eachReceipt(r.Context(), l, emit)
	})
}

func eachReceipt(ctx context.Context, l forwarder.Ledger, emit func([]byte) error) error {
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

// holdOrder is the body of a POST to holdPath.
type holdOrder struct {
	// Do is "set" or "release".
	Do string `json:"do"`
	// Hold is what is set; of one that is released only the ID counts.
	Hold forwarder.Hold `json:"hold"`
	// Reason is why; the audit log keeps it.
	Reason string `json:"reason"`
}

// holdAnswer says what became of it.
type holdAnswer struct {
	ID string `json:"id"`
	// Stores are those that follow it, and NotHeld those that do not enforce retention
	// themselves: there, the entries go when that store's own rules say so.
	Stores  []string `json:"stores"`
	NotHeld []string `json:"not_held,omitempty"`
}

const (
	doSet     = "set"
	doRelease = "release"

	maxHoldText = 400
)

func (o *holdOrder) check() error {
	h := &o.Hold
	switch {
	case o.Do != doSet && o.Do != doRelease:
		return fmt.Errorf("do %q: it is set or release", o.Do)
	case o.Reason == "" || len(o.Reason) > maxPassReason || !utf8.ValidString(o.Reason):
		return fmt.Errorf("give a reason of up to %d bytes, which the audit log keeps", maxPassReason)
	case o.Do == doRelease && h.ID == "":
		return errors.New("name the hold that is released: caddy audit retention hold list shows them")
	case o.Do == doSet && h.Organization == "" && h.Actor == "" && h.From.IsZero() && h.To.IsZero():
		return errors.New("say what is held: an organization, an actor, or a time")
	case !h.From.IsZero() && !h.To.IsZero() && !h.From.Before(h.To):
		return errors.New("its time ends before it begins")
	}
	for _, text := range []string{h.ID, h.Organization, h.Actor} {
		if len(text) > maxHoldText || !utf8.ValidString(text) {
			return fmt.Errorf("its id, organization and actor are texts of up to %d bytes", maxHoldText)
		}
	}
	return nil
}

// serveHold sets or releases a hold, in every store that enforces retention itself. One
// that is set holds before the answer leaves; that it was is an entry.
func (a *App) serveHold(w http.ResponseWriter, r *http.Request) error {
	var o holdOrder
	err := readOrder(w, r, 64<<10, &o)
	if err == nil {
		err = o.check()
	}
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("holding entries: %w", err)}
	}
	answer, err := a.orderHold(r.Context(), &o)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(answer)
}

func (a *App) orderHold(ctx context.Context, o *holdOrder) (answer holdAnswer, err error) {
	s, err := a.hold()
	if err != nil {
		return answer, err
	}
	defer s.release()
	o.Hold.ID = cmp.Or(o.Hold.ID, "hold-"+uuid.NewString()[:8])
	o.Hold.Reason, o.Hold.Since = o.Reason, time.Now().UTC()
	facts := map[string]any{"do": o.Do, "hold": o.Hold.ID, "reason": o.Reason}
	for name, value := range map[string]string{"organization": o.Hold.Organization, "actor": o.Hold.Actor} {
		if value != "" {
			facts[name] = value
		}
	}
	for name, t := range map[string]time.Time{"from": o.Hold.From, "to": o.Hold.To} {
		if !t.IsZero() {
			facts[name] = t.UTC().Format(time.RFC3339)
		}
	}
	answer = holdAnswer{ID: o.Hold.ID, Stores: []string{}, NotHeld: a.notKept()}
	if o.Do == doRelease {
		// Before anything can expire for it.
		s.event(audit.EventHold, facts)
	}
	err = a.ledgers(func(name string, d *delivery) error {
		err := d.store.keep(func(k forwarder.Keeper) error {
			if o.Do == doSet {
				return k.SetHold(ctx, o.Hold)
			}
			return k.ReleaseHold(ctx, o.Hold.ID)
		})
		if err != nil {
			return fmt.Errorf("store %q: %w: order it again with --id %s, which does it everywhere", name, err, o.Hold.ID)
		}
		answer.Stores = append(answer.Stores, name)
		return nil
	})
	if len(answer.Stores) == 0 && err == nil {
		err = errors.New("no configured store enforces retention itself, so nothing can be held: sqlite and postgres do")
	}
	if o.Do == doSet {
		facts["stores"] = answer.Stores
		if err != nil {
			facts["failed"] = true
		}
		s.event(audit.EventHold, facts)
	}
	if err != nil {
		return answer, fmt.Errorf("holding entries: %w", err)
	}
	return answer, nil
}
