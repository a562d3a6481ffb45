package stores

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	// The stores of this build.
	_ "github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/file"
	_ "github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/http"
	_ "github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/nats"
	_ "github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/otlp"
	_ "github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/postgres"
	_ "github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/s3"
	_ "github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/syslog"
)

// StoreConfig is one audit store, and which entries it gets and how.
type StoreConfig struct {
	// Name is what the store is known by, in status, metrics and the buffer, which
	// keeps its position under it. Two stores of one kind need names. Default: the
	// kind.
	Name string `json:"name,omitempty"`

	// Detachable is the part of the buffer's max_size, above 0 and at most 1, that may
	// wait for the store. Beyond it the store is detached: it does not get what waits,
	// an audit.gap entry says which entries these are, and it goes on with the next
	// one. A store that is not detachable is required: when the buffer is full because
	// it takes nothing, calls are refused. Default: 0, which is required.
	Detachable float64 `json:"detachable,omitempty"`

	// From is where a store begins that is new under its name, or whose destination
	// has changed: "oldest" is the oldest entry that the buffer still holds, "now" what
	// is recorded next. A changed destination must say it, and until then the store gets
	// nothing and its entries wait. Default: "oldest" for a new name.
	From string `json:"from,omitempty"`

	// Filter says which entries the store gets; the others count as filtered.
	// Default: all.
	forwarder.Filter

	// Format is what the store gets: "native" is the entry, "ocsf" an event of class
	// API Activity of the Open Cybersecurity Schema Framework. A store that is read
	// back takes only native. Default: "native".
	Format string `json:"format,omitempty"`

	// BatchEntries is the size of a batch while there is no backlog; on a backlog batches
	// grow to what suits the store. Default: 250, of s3 5000.
	//
	// Caddyfile: batch <entries> [<duration>]
	BatchEntries int `json:"batch_entries,omitempty"`

	// BatchWait is how long entries may wait for a batch to fill. Default: not at all, and up
	// to 200ms for 1000 while many come; of http and otlp 1s, of s3 10s.
	//
	// Caddyfile: batch <entries> <duration>
	BatchWait caddy.Duration `json:"batch_wait,omitempty"`

	// StoreRaw is the store itself. Required.
	//
	// Caddyfile: store <kind> <args...>
	StoreRaw json.RawMessage `json:"store" caddy:"namespace=audit_log.stores inline_key=kind"`

	// DefinedAt is the file and line of these options, for error messages. Default: in a
	// Caddyfile where they stand, else nothing.
	//
	// Caddyfile: none
	DefinedAt string `json:"defined_at,omitempty"`
}

const (
	fromOldest = "oldest"
	// FromNow is where a store begins that gets what is recorded next.
	FromNow = "now"

	formatNative = "native"
	formatOCSF   = "ocsf"
)

// nameForm bounds what a name may be: it stands in metrics, on command lines and in
// the buffer.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// Store is an audit store of a configuration.
type Store struct {
	*StoreConfig
	Name   string
	Opener forwarder.Opener
}

// isReadable reports whether the store can be read back.
func (n *Store) isReadable() bool {
	_, ok := n.Opener.(forwarder.ReaderOpener)
	return ok
}

// Keeps reports whether the store enforces retention itself.
func (n *Store) Keeps() bool {
	_, ok := n.Opener.(forwarder.LedgerOpener)
	return ok
}

func (c *StoreConfig) provision(ctx caddy.Context) (*Store, error) {
	mod, err := ctx.LoadModule(c, "StoreRaw")
	if err != nil {
		return nil, err
	}
	m, ok := mod.(caddy.Module)
	opener, opens := mod.(forwarder.Opener)
	if !ok || !opens {
		return nil, fmt.Errorf("%T is not a store", mod)
	}
	n := &Store{StoreConfig: c, Name: cmp.Or(c.Name, m.CaddyModule().ID.Name()), Opener: opener}
	switch {
	case !nameForm.MatchString(n.Name):
		return nil, fmt.Errorf("the name %q: it is made of up to 64 letters, digits, dots, hyphens and underscores", n.Name)
	case c.Detachable < 0 || c.Detachable > 1:
		return nil, fmt.Errorf("%s: detachable %g: it is a part of the buffer above 0 and at most 1, as in: detachable 20%%", n.Name, c.Detachable)
	case c.From != "" && c.From != fromOldest && c.From != FromNow:
		return nil, fmt.Errorf("%s: from %q: it is oldest or now", n.Name, c.From)
	case c.Format != "" && c.Format != formatNative && c.Format != formatOCSF:
		return nil, fmt.Errorf("%s: format %q: it is native or ocsf", n.Name, c.Format)
	case c.Format == formatOCSF && n.isReadable():
		return nil, fmt.Errorf("%s: format ocsf: this store is read back, for search, export and the page, and those read native entries: use http or file for ocsf", n.Name)
	case c.BatchEntries < 0 || c.BatchWait < 0:
		return nil, fmt.Errorf("%s: batch: both numbers must be above zero, as in: batch 250 1s", n.Name)
	}
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name, err)
	}
	return n, nil
}

// Attachment is how the store is attached to a buffer of a size.
func (n *Store) Attachment(maxSize int64) buffer.Attachment {
	d := n.Opener.Describe()
	a := buffer.Attachment{
		Destination: d.Kind + " " + d.Location,
		MaxLag:      int64(n.Detachable * float64(cmp.Or(maxSize, buffer.DefaultMaxSize))),
	}
	switch n.From {
	case fromOldest:
		a.From = buffer.FromOldest
	case FromNow:
		a.From = buffer.FromNow
	}
	return a
}

// Options are those of the store's forwarder.
func (n *Store) Options() forwarder.Options {
	o := forwarder.Options{}
	if b, ok := n.Opener.(forwarder.BatchOpener); ok {
		o.Batching = b.Batching()
	}
	if n.BatchEntries > 0 {
		o.BatchEntries = n.BatchEntries
		if o.MaxBatchEntries > 0 {
			o.BatchEntries = min(o.BatchEntries, o.MaxBatchEntries)
		}
	}
	if n.BatchWait > 0 {
		o.BatchWait = time.Duration(n.BatchWait)
	}
	if !n.IsZero() {
		o.Filter = n.Takes
	}
	if n.Format == formatOCSF {
		o.Format = audit.OCSFDocument
	}
	o.StampApart = n.Keeps()
	// A filter that asks for the organization must know it.
	o.StampLater = o.StampApart && len(n.Only.Organizations)+len(n.Except.Organizations) == 0
	return o
}

// Describe says in one line what the store is and which entries it gets.
func (n *Store) Describe() string {
	d := n.Opener.Describe()
	line := fmt.Sprintf("store %s %s %s format %s", n.Name, d.Kind, d.Location, cmp.Or(n.Format, formatNative))
	if n.Detachable > 0 {
		line += fmt.Sprintf(" detachable %g%%", 100*n.Detachable)
	}
	if !n.IsZero() {
		b, _ := json.Marshal(n.Filter) // lists of texts always encode
		line += " " + string(b)
	}
	return line
}
