package forwarder

import (
	"log/slog"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// The defaults of Options.
const (
	// DefaultBatchEntries is the size of a batch while there is no backlog.
	DefaultBatchEntries = 250
	// DefaultMaxBatchEntries is the size that batches grow to on a backlog:
	// big batches drain faster.
	DefaultMaxBatchEntries = 5000
	// DefaultBatchBytes bounds the JSON of a batch, 4 MiB.
	DefaultBatchBytes = 4 << 20
	// DefaultFlushTimeout is what the batch in hand gets at shutdown.
	DefaultFlushTimeout = 5 * time.Second
	// DefaultStampWait is how long an entry waits for its organization and plan where
	// the store cannot be told later: a backlog passes at once.
	DefaultStampWait = 10 * time.Second
)

// The pace of a store that keeps up while many entries come, unless it has a BatchWait.
const (
	// busyEntries is how many a batch has that came together while the last one was
	// written, and behind which there is nothing yet, when the next one waits: for busyBatches times BatchEntries, at most busyWait.
	busyEntries = 25
	busyBatches = 4
	busyWait    = 200 * time.Millisecond
)

// gather is how many entries are waited for while many come.
func (o *Options) gather() int { return min(busyBatches*o.BatchEntries, o.MaxBatchEntries) }

// The pace of retries.
const (
	// BackoffBase bounds the pause after the first failure; the bound doubles
	// with each further one. The pause itself is drawn from zero to the bound
	// ("full jitter"), so that many sidecars do not return in step.
	BackoffBase = 100 * time.Millisecond
	// BackoffCap is the highest bound.
	BackoffCap = 30 * time.Second
	// MaxRetryAfter bounds what a store may ask for, so that one wrong header
	// does not stop its delivery for a day.
	MaxRetryAfter = 5 * time.Minute
)

// Batching bounds batches.
type Batching struct {
	// BatchEntries is the number of entries of a full batch while there is no
	// backlog. Zero is DefaultBatchEntries.
	BatchEntries int
	// MaxBatchEntries is what a batch may grow to on a backlog: twice as many
	// after each full batch. Zero is DefaultMaxBatchEntries; less than
	// BatchEntries is BatchEntries, which keeps all batches at that size.
	MaxBatchEntries int
	// BatchBytes bounds the JSON of a batch, in bytes. An entry that is larger
	// travels alone. Zero is DefaultBatchBytes.
	BatchBytes int
	// BatchWait is how long entries may wait for BatchEntries to come
	// together. Zero, the default, sends what is there as soon as the store is
	// free: a lone entry is stored at once. Under load, after a batch of 25 or more, the
	// next one waits up to 200 ms for 1000 (4 × BatchEntries). A negative one never waits. Set it, to a second for instance, for a store
	// where a request costs more than its content.
	BatchWait time.Duration
}

// Options of a Forwarder. The zero value is a good choice for a store that
// takes batches of any size.
type Options struct {
	// Logger gets one line when the store begins to fail and one when it has
	// recovered. Nil discards them.
	Logger *slog.Logger

	Batching

	// Filter says which entries the store gets; nil is all of them. Each revision is
	// asked for by itself.
	Filter func(*audit.Entry) bool
	// Format makes the JSON that the store is given of the entry's own; nil is the
	// entry as it was captured. One that it cannot encode goes into quarantine.
	Format func(doc []byte) ([]byte, error)

	// Stamper says whose an entry is and how long it is kept. Nil stamps nothing.
	Stamper Stamper
	// StampLater says that a stamp which is pending may be given to the store at once,
	// because the store is a Keeper, which is given the right one later. Else delivery
	// waits for it, until the entry is StampWait old.
	StampLater bool
	// StampApart says that the store is a Keeper: it gets the stamp beside the JSON and
	// not in it.
	StampApart bool
	// StampWait is how old an entry may become, from its arrival, before it is stamped
	// by what is known. Zero is DefaultStampWait.
	StampWait time.Duration

	// FlushTimeout is how long the batch in hand may take to finish after
	// Run's context has ended. Zero is DefaultFlushTimeout; negative cancels
	// the write at once.
	FlushTimeout time.Duration

	// OnBatch, if set, is told of each attempt to write a batch, for metrics.
	// Run's goroutine calls it and waits for it.
	OnBatch func(Batch)
}

// Batch is one attempt to write a batch.
type Batch struct {
	// First and Last are the sequences of its first and last entry.
	First, Last uint64
	Entries     int
	// Bytes is the size of its JSON.
	Bytes int
	// Duration is how long Store.Write took.
	Duration time.Duration
	// Err is nil when the whole batch is durable.
	Err error
}

// withDefaults fills in what is zero.
func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.BatchEntries <= 0 {
		o.BatchEntries = DefaultBatchEntries
	}
	if o.MaxBatchEntries <= 0 {
		o.MaxBatchEntries = DefaultMaxBatchEntries
	}
	o.MaxBatchEntries = max(o.MaxBatchEntries, o.BatchEntries)
	if o.BatchBytes <= 0 {
		o.BatchBytes = DefaultBatchBytes
	}
	if o.FlushTimeout == 0 {
		o.FlushTimeout = DefaultFlushTimeout
	}
	if o.StampWait <= 0 {
		o.StampWait = DefaultStampWait
	}
	return o
}
