package viewer

import (
	"context"
	"net/http"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// Gate says who a visitor is and whose log they may read. Its methods are safe for
// concurrent use. An error that is no *DeniedError means that it cannot be said now.
type Gate interface {
	// Visitor is who asks, by the credential of the request.
	Visitor(r *http.Request) (*Visitor, error)
	// Grant is what the visitor may read of an organization, which is named by whatever
	// stands in a URL.
	Grant(ctx context.Context, v *Visitor, slug string) (*Grant, error)
}

// Visitor is somebody whose credential was verified.
type Visitor struct {
	// Actor is who it is, as an entry has it.
	Actor audit.Actor
	// Until is when the credential ends; zero if nobody said so.
	Until time.Time
	// Name is what the page calls them.
	Name string
	// Credential is for the Gate alone; nothing else looks at it.
	Credential any
}

// Grant is what somebody may read.
type Grant struct {
	// ID, Slug and Name are the organization's. ID is empty where nobody has one.
	ID, Slug, Name string
	// Owners are whose entries it is; there is at least one.
	Owners []audit.Owner
	// Plan is the organization's, empty if it is not known.
	Plan string
	// Operator says that the visitor may read every organization: they see all of each
	// entry, by no plan, and that they looked is an entry.
	Operator bool
}

// DeniedError says that a visitor may not read, and why, in words for them.
type DeniedError struct {
	// Status is 401 where nobody was verified, 403 where somebody may not, 402 where the
	// plan does not have it.
	Status  int
	Message string

	tooLong bool // the range that was asked for
}

// Error implements error.
func (d *DeniedError) Error() string { return d.Message }

// The denials of every Gate.
var (
	// ErrNoVisitor means that there is no credential, or none that is verified.
	ErrNoVisitor = &DeniedError{Status: http.StatusUnauthorized, Message: "Unauthorized: sign in to read audit logs"}
	// ErrNoPermission means that the visitor is no member of the organization or lacks a
	// role, or that there is no such organization: which of them, nobody is told.
	ErrNoPermission = &DeniedError{Status: http.StatusForbidden, Message: "Forbidden: you need additional permissions to view the audit logs of this organization"}
)
