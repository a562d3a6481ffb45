// Package page renders the pages of an organization's audit log as HTML: how they look,
// and what they say. It is given plain values, and knows no store, no credential and no
// server; it reads no clock.
//
// All that it writes stands under a Content-Security-Policy that allows the files of
// Asset and nothing else, see Policy. Every text of an entry is hostile: it is shown as
// text, with what cannot be seen made visible.
package page

import (
	"io"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Policy is the Content-Security-Policy that the pages are made for. Whoever serves them
// sends it with each.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"

// Frame is what all pages have in common. The zero value is a page of nobody's.
type Frame struct {
	// Organization is whose log it is; zero on the start page.
	Organization Organization
	// Reader is who looks; zero if nobody is signed in.
	Reader Reader
}

// Organization is named by its slug, and for people by its name, which may be empty.
type Organization struct{ Slug, Name string }

// Reader is who looks at the page.
type Reader struct {
	// Name is the reader's email or whatever they know themselves by.
	Name string
	// Operator says that they see everything: who made an unproven attempt, and which
	// buffer an entry came from. To all others an entry is shown as its Attempt and
	// without its Origin, also where it was given whole.
	Operator bool
}

// Log is the page of an organization's entries.
type Log struct {
	Frame
	// View is what the reader's address said.
	View View
	// From and To bound the time that is shown: From <= t < To.
	From, To time.Time
	// Zone is what times are shown in; nil is UTC.
	Zone *time.Location
	// Complete is until when all that arrived is in the store; zero if that is not known.
	Complete time.Time
	// Plan is the organization's, and Readable how far back it may look; each may be zero
	// and is not spoken of then.
	Plan     string
	Readable time.Duration
	// Tally has what the histogram shows and what there is to filter by. For all but
	// operators it is made of a query that has AsMember: what it counts is shown as it is.
	// Nil leaves both out, but for the filters that are chosen.
	Tally *forwarder.Tally
	// AtLeast says that counting was ended early, so that there are more than it counted.
	AtLeast bool
	// Entries are those of this page, newest first. Each is shown as it is given, but for
	// Reader.Operator.
	Entries []*audit.Entry
	// Gaps are those that touch the time of this page's entries, in any order.
	Gaps []Gap
	// Newer and Older are the cursors of the pages beside this one; empty if there is
	// none.
	Newer, Older string
	// Notice is a sentence about this page alone, for instance that a search was ended
	// early. Empty is none.
	Notice string
}

// Gap is a time of which the record may not be complete.
type Gap struct {
	// From and To bound it. The zero time is an open end.
	From, To time.Time
	// Missing is how many entries are missing; zero if nobody knows.
	Missing int64
	// Why is a sentence for people; may be empty.
	Why string
}

// Render writes the page. An error is the writer's.
func (l *Log) Render(w io.Writer) error { return render(w, "log", newLogPage(l)) }

// Entry is the page of one entry. Its article is also what the log's page shows beside
// the log.
type Entry struct {
	Frame
	// View is the part of the log that the reader came from.
	View View
	// Entry is shown as it is given, but for Reader.Operator.
	Entry *audit.Entry
	// JSON is the document as the API gives it to this reader. Empty is the encoding of
	// what is shown of Entry.
	JSON []byte
	// Zone is what times are shown in; nil is UTC.
	Zone *time.Location
}

// Render writes the page. An error is the writer's.
func (e *Entry) Render(w io.Writer) error { return render(w, "entry", newEntryPage(e)) }

// Kind is why there is no log to show.
type Kind string

// The kinds of states.
const (
	// SignedOut means that the reader must sign in first. Link is where; may be empty.
	SignedOut Kind = "signed_out"
	// NoPermission means that the reader is signed in and may not read this log.
	NoPermission Kind = "no_permission"
	// NotEntitled means that the organization's plan has no audit log. Link is where to
	// change it; may be empty.
	NotEntitled Kind = "not_entitled"
	// RangeTooLarge means that more time was asked for than is shown at once. Message may
	// say how much that is.
	RangeTooLarge Kind = "range_too_large"
	// BadRequest means that the address cannot be understood. Message says what of it.
	BadRequest Kind = "bad_request"
	// NotFound means that there is no such page or entry, or none for this reader.
	NotFound Kind = "not_found"
	// Failed means that it went wrong here, and may go well the next time. Message may be
	// something to tell the operator.
	Failed Kind = "failed"
)

// State is a page that says why there is no log to show, and what to do next.
type State struct {
	Frame
	// View is what the reader's address said, as far as it could be understood.
	View View
	// Kind is why. One that is not known is Failed.
	Kind Kind
	// Message is a sentence more; may be empty. It may hold what the reader sent.
	Message string
	// Link is where to go next; only http, https and paths of this server are taken.
	Link string
}

// Render writes the page. An error is the writer's.
func (s *State) Render(w io.Writer) error { return render(w, "state", newStatePage(s)) }

// Start is the page at the beginning: which organization's log? Its form asks for the
// same page with ParamOrganization, whose answer leads to the log.
type Start struct {
	Frame
	// Organizations are those that the reader may read. Empty if that is not known.
	Organizations []Organization
	// Slug is what the form is filled with.
	Slug string
	// Message says why the form is shown again; empty the first time.
	Message string
}

// Render writes the page. An error is the writer's.
func (s *Start) Render(w io.Writer) error { return render(w, "start", newStartPage(s)) }
