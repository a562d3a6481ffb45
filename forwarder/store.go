// Package forwarder delivers entries from the buffer to audit stores, at
// least once and in sequence. It knows neither Caddy nor the buffer's files:
// it reads through Source and writes through Store.
package forwarder

import (
	"context"
	"errors"
	"iter"
	"log/slog"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// Delivery is what a store can promise about a batch that is written twice,
// as happens when the process dies between the write and the position.
type Delivery string

// The delivery classes.
const (
	// DeliveryOnce stores a repeated (id, revision) once.
	DeliveryOnce Delivery = "once"
	// DeliveryAtLeastOnce may show a repeat to its readers.
	DeliveryAtLeastOnce Delivery = "at_least_once"
	// DeliveryUnacknowledged cannot say whether anything arrived.
	DeliveryUnacknowledged Delivery = "unacknowledged"
)

// Description says what a store is. It never holds a secret: it is shown in
// status, logs and metrics.
type Description struct {
	// Kind is the store's module name, as in "sqlite".
	Kind string `json:"kind"`
	// Location is where the entries go, without credentials. It is also what the
	// destination is known by: a store whose location changes goes on elsewhere and
	// must say from where on (From). So it names all that makes a destination
	// another one (host, database, path) and nothing that does not (timeouts).
	Location string   `json:"location"`
	Delivery Delivery `json:"delivery"`
}

// Record is one entry on its way to a store.
type Record struct {
	// Sequence is the entry's number in its buffer, Entry.Origin.Sequence.
	Sequence uint64
	// Entry is decoded, with Origin and the stamp on it. A store must not change it.
	Entry *audit.Entry
	// JSON is Entry in the store's format: encoded as it was captured, with Origin and
	// behind that the stamp, unless the configuration names another one. A store that is
	// a Keeper gets it without the stamp. A store must not change or keep it.
	JSON []byte
	// Stamp is whose the entry is and how long it is kept; nil if nobody has said so.
	Stamp *audit.Stamp
	// changed is what the Stamper's Changed was when it was stamped.
	changed uint64
}

// Store takes batches of entries. Write is never called twice at a time; Close is
// called once, after the last Write returned.
type Store interface {
	// Write makes the whole batch durable, in order, and returns nil only
	// then. After an error any part of it may be stored, and its entries are
	// written again, in the same batch or in others. While one is refused, later
	// ones may come before it. A revision must never replace a higher one. It
	// returns soon after ctx is done.
	//
	// A *RefusedError says that the batch was refused for what is in it. Every
	// other error is tried again for ever, after a pause that a method
	// RetryAfter() time.Duration of the error may lengthen. No error may hold a
	// credential: it is logged and shown.
	Write(ctx context.Context, batch []Record) error
	// Describe may be called at any time, from any goroutine.
	Describe() Description
	Close() error
}

// RefusedError is what a store returns that has understood a batch and refuses it
// for what is in it, so that the same bytes will be refused again: a value out of
// range, a body that is too large, a schema that is not met. Whether that is true
// of one entry or of everything is for the forwarder to find out: it divides the
// batch, and only an entry that is refused while another one is accepted goes into
// quarantine.
//
// A store that is down, busy, misconfigured or not allowed in must not return it.
type RefusedError struct {
	// Err is why, in the store's words and without credentials.
	Err error
}

// Error implements error.
func (e *RefusedError) Error() string { return e.Err.Error() }

// Unwrap returns why.
func (e *RefusedError) Unwrap() error { return e.Err }

// Preparer is a store that has something to do before the first batch is read, such
// as opening what it writes to. An error is tried again like a failed write.
type Preparer interface {
	// Prepare is called by the goroutine that will write, until it returns nil.
	// The sequence is that of the entry that comes next.
	Prepare(ctx context.Context, next uint64) error
}

// Witness is a store that knows how far it has got with a buffer. A buffer whose
// head is behind that has been put back to a time before.
type Witness interface {
	// Highest is the highest sequence that the store ever took of an instance; zero
	// if it took none.
	Highest(ctx context.Context, instance string) (sequence uint64, err error)
}

// MaxNote bounds a note, in bytes.
const MaxNote = 1024

// Notes keep a few bytes for a store beside its position in the buffer, so that a
// decision which it has to find again after a crash is durable before it acts on it:
// what the next object is called, say. They belong to the store's name and destination,
// as the position does, and go with the buffer when that is adopted.
type Notes interface {
	// Note is what was kept last, nil if nothing was. The caller may change it.
	Note() []byte
	// SetNote keeps another one, a JSON value of up to MaxNote bytes. It is synced once
	// that returns nil; after an error either may be found.
	SetNote(note []byte) error
}

// NoteKeeper is a store that needs Notes.
type NoteKeeper interface {
	// KeepNotes is called once, by the goroutine that will write, between Open and the
	// first Write.
	KeepNotes(n Notes)
}

// Source is the buffer as the forwarder sees it. Sequences start at 1 and
// have no gaps.
type Source interface {
	// Instance is the UUID of the buffer that recorded an entry, the instance of
	// its Origin.
	Instance(sequence uint64) string
	// Wait returns the head, the sequence of the newest durable entry, as
	// soon as it is beyond after. It returns ctx's error if that ends first.
	Wait(ctx context.Context, after uint64) (head uint64, err error)
	// Read calls visit for each entry from the given sequence to the head,
	// in order, until visit returns false. The payload is valid only during
	// the call. It ends before an entry that is damaged; when that is the first,
	// the error has a method Damaged() (first, last uint64): the range that nobody
	// can read any more.
	Read(from uint64, visit func(sequence uint64, payload []byte) bool) error
	// Position is the sequence of the last entry that the store is done
	// with; zero before the first.
	Position(store string) uint64
	// Advance moves the store's position and adds to its counters, in one
	// step. It returns at once; the position is made durable with one of the
	// next commits. A position that is lost at a crash repeats a batch.
	// It reports false, and counts nothing, when the position is there already or
	// beyond: the source has given up what it held for the store.
	Advance(store string, to uint64, delivered, filtered, quarantined uint64) bool
	// Quarantine keeps an entry, which it still holds, for an operator to look at:
	// the store will never take it. Once it returns nil that is synced. Repeating it
	// changes nothing.
	Quarantine(store string, sequence uint64, reason string) error
	// Damaged is Advance over entries that cannot be read. The source has recorded a
	// gap for them.
	Damaged(store string, to uint64)
}

// Opener is a store's configuration.
type Opener interface {
	// Describe is what the opened store's Describe will say.
	Describe() Description
	// Open opens the store. Its only caller is the goroutine that will write,
	// and an error is tried again like a failed write, so that a store that is
	// down or damaged stops neither a start nor a call.
	Open(ctx context.Context, log *slog.Logger) (Store, error)
}

// BatchOpener is an Opener that knows which batches suit its store. What is zero is
// the forwarder's default, and what the configuration says goes before it.
type BatchOpener interface {
	// Batching may be called at any time, from any goroutine.
	Batching() Batching
}

// ProbeOpener is an Opener whose store cannot be tried by opening it a second time
// and writing to it, as a file that one process has to itself.
type ProbeOpener interface {
	// Probe says whether the destination would take the record, and what to do if
	// it would not. It may write it. Another process may have the store open.
	Probe(ctx context.Context, probe Record) error
}

// ErrUnprepared is in an error of OpenReader where the destination is there and lacks what a
// server makes or brings up to date when it starts.
var ErrUnprepared = errors.New("it is not prepared yet")

// ReaderOpener is an Opener whose store can be read back, beside the one that
// writes and also while nobody does.
type ReaderOpener interface {
	OpenReader(ctx context.Context) (ReadCloser, error)
}

// ScanOpener is an Opener whose destination can be read back only as it arrived: slowly,
// and with repeats and lower revisions. It is read where somebody asks for just this
// store; package spool makes a Reader of it.
type ScanOpener interface {
	// Scan yields the JSON of all that the destination has and the query may select, in
	// any order. Only From and To narrow it: all else may be true of one revision and not
	// of a later one. What is there and cannot be read, or is not what it should be, is
	// told to damaged, by a name that is fit for a log, and passed over; some of it may
	// have been yielded. An error ends the sequence. The bytes are valid until the next
	// iteration, and memory is constant.
	Scan(ctx context.Context, q Query, damaged func(name string, err error)) iter.Seq2[[]byte, error]
}

// ReadCloser is a Reader that its opener closes.
type ReadCloser interface {
	Reader
	Close() error
}
