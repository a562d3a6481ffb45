package forwarder

import (
	"context"
	"iter"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// Keeper is a store that keeps the stamp beside each entry, so that it can change, and
// deletes what has expired. All its methods may be called from any goroutine, also while
// a Write is under way, until Close.
//
// One rule holds for every stamp, whether Write or Restamp brings it, and in whatever
// order: of two retentions the one that keeps longer counts, as a whole; of two that keep
// equally long the newer one. An organization that is known stays, and is never put in
// the place of another one. An entry without a stamp has no class and is never deleted.
//
// Where the store takes entries of this sidecar and lets it do no more, the methods that
// write return ErrElsewhere, wrapped.
//
// Write takes no entry that has expired: neither one whose retention has ended, nor one
// of a class and an arrival that a receipt covers, unless its own retention ends later
// than those of all that the receipt is for. Its sequence has been received all the same,
// and a receipt says what became of it.
type Keeper interface {
	Store
	Ledger
	// Pending yields the entries whose stamp is pending, oldest first, and with untagged
	// also those without a retention, which an earlier version or a configuration without
	// one has left. It holds no lock between entries, and may be ended at any time. What a
	// Record holds is valid until the next iteration.
	Pending(ctx context.Context, untagged bool) iter.Seq2[Record, error]
	// Restamp puts stamps on entries, in one transaction. Entries that are not there any
	// more are passed over, and so are organizations of entries that have one. Pending
	// becomes what the stamp says. It is given a few hundred at most.
	Restamp(ctx context.Context, stamps []Restamp) error
	// Prune makes one step: it deletes some entries that have expired, and returns what
	// it did, and whether there may be more to do. A step is short (see Expiry.Step), so
	// that neither a Write nor a reader waits long for it, and one transaction: a kill
	// leaves the entries and no receipt, or the receipt and no entries.
	//
	// It never deletes an entry that is held, pending, or without a stamp.
	Prune(ctx context.Context, e Expiry) (Pruned, error)
	// SetHold makes a hold, or replaces the one of the same ID. Once it returns, nothing
	// that the hold selects is deleted.
	SetHold(ctx context.Context, h Hold) error
	// ReleaseHold ends a hold; an ID that is not there is no error. What no other hold
	// selects expires as its retention says.
	ReleaseHold(ctx context.Context, id string) error
}

// Ledger is what a store that enforces retention can tell of it.
type Ledger interface {
	// Classes are the entries that are there, by class. What has no stamp is under the
	// empty name.
	Classes(ctx context.Context) ([]ClassTotal, error)
	// Expiring are those of them whose retention ends before a time, by class, those
	// that are held or pending apart.
	Expiring(ctx context.Context, before time.Time) ([]ClassTotal, error)
	// Receipts yields what was deleted, newest first.
	Receipts(ctx context.Context) iter.Seq2[Receipt, error]
	// Lost are the sequences that have arrived, and whose entry is neither there, nor
	// replaced by a higher revision, nor accounted for by a receipt: somebody has deleted
	// it behind the store's back. Merged, by instance and sequence.
	Lost(ctx context.Context) ([]Range, error)
	// Holds are all that are in force, oldest first.
	Holds(ctx context.Context) ([]Hold, error)
}

// LedgerOpener is an Opener whose store is a Keeper. Its Reader is a Ledger too.
type LedgerOpener interface {
	ReaderOpener
	// OpenLedger is OpenReader.
	OpenLedger(ctx context.Context) (LedgerCloser, error)
}

// LedgerCloser is a Reader that is a Ledger.
type LedgerCloser interface {
	ReadCloser
	Ledger
}

// Restamp is another stamp for an entry.
type Restamp struct {
	// ID and Timestamp are the entry's.
	ID        string
	Timestamp int64
	Stamp     audit.Stamp
}

// Expiry says what has expired.
type Expiry struct {
	// Now is what time it is.
	Now time.Time
	// Until is until when an entry of a class that arrived then is kept by the terms as
	// they are now, in microseconds since the Unix epoch: zero for a class that is not
	// there any more, audit.ForeverMicros for ever. An entry is deleted only when this
	// and its own retention have both ended; where this ends later, the entry's retention
	// is extended to it.
	Until func(class string, arrival int64) int64
	// Rule is the term that a class has now, for the receipt.
	Rule func(class string) string
	// Step is for how long a step may keep the store from writing, about. Zero is
	// DefaultPruneStep.
	Step time.Duration
}

// DefaultPruneStep is how long one step of pruning takes, about.
const DefaultPruneStep = 15 * time.Millisecond

// Pruned is what a step did.
type Pruned struct {
	// Deleted are the entries that are gone, by class.
	Deleted []ClassTotal
	// Extended counts those whose retention was extended, because the terms now keep
	// longer, and Held those that a hold keeps.
	Extended, Held int64
	// More says that another step may find something to do. A step that has done
	// nothing says that there is nothing.
	More bool
}

// ClassTotal is how many entries of a class there are.
type ClassTotal struct {
	Class   string `json:"class"`
	Entries int64  `json:"entries"`
	// Bytes are those of their documents.
	Bytes int64 `json:"bytes"`
	// Held and Pending are how many of them a hold keeps, and how many are still being
	// asked about.
	Held    int64 `json:"held,omitempty"`
	Pending int64 `json:"pending,omitempty"`
}

// Receipt says what was deleted of one class, because it had expired.
type Receipt struct {
	Class string `json:"class"`
	// Rule is the term that it had then.
	Rule string `json:"rule"`
	// Instance, First and Last are of which buffer, and between which of its sequences.
	// Other entries of other classes may lie between them.
	Instance string `json:"instance"`
	First    uint64 `json:"first_sequence"`
	Last     uint64 `json:"last_sequence"`
	// FirstArrival and LastArrival are when they had arrived, in microseconds.
	FirstArrival int64 `json:"first_arrival"`
	LastArrival  int64 `json:"last_arrival"`
	// KeptUntil is the latest end of their retentions, in microseconds.
	KeptUntil int64 `json:"kept_until"`
	Entries   int64 `json:"entries"`
	// Late are those of them that had expired before they came.
	Late int64 `json:"late,omitempty"`
	// From and To are when they were deleted, in microseconds: one receipt stands for
	// all that is deleted of a class and a buffer in one day.
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// Hold keeps what it selects from being deleted, whatever its retention says. Each field
// that is set narrows the selection; one selects at least.
type Hold struct {
	// ID names the hold.
	ID string `json:"id"`
	// Organization is an id or a slug.
	Organization string `json:"organization,omitempty"`
	// Actor is a user's id, an email address, a token's hash, or an OAuth app's id.
	Actor string `json:"actor,omitempty"`
	// From and To bound the arrival: From <= t < To. Zero is unbounded: a hold without To
	// keeps what will come, too.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// Reason is why, for people.
	Reason string `json:"reason"`
	// Since is when it was set.
	Since time.Time `json:"since"`
}

// Selects says whether the hold keeps an entry. What is not known of an entry, because it
// was redacted or never captured, cannot select it.
func (h *Hold) Selects(e *audit.Entry) bool {
	at := time.UnixMicro(e.Timestamp)
	a := &e.Actor
	return (h.Organization == "" || h.Organization == e.OrganizationID || h.Organization == e.OrganizationSlug) &&
		(h.Actor == "" || h.Actor == a.UserID || h.Actor == a.Email || h.Actor == a.TokenHash || h.Actor == a.OAuthAppID || h.Actor == a.AssertedUserID) &&
		(h.From.IsZero() || !at.Before(h.From)) && (h.To.IsZero() || at.Before(h.To))
}

// IsHeld says whether one of the holds keeps an entry.
func IsHeld(holds []Hold, e *audit.Entry) bool {
	for i := range holds {
		if holds[i].Selects(e) {
			return true
		}
	}
	return false
}
