package sqlite

import (
	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// The columns of the fields of the Brief that have one of their own, and event, which is 1
// for an event of the sidecar: as an insert and an update have them. The rest was there
// before: id, timestamp, membership, and project_ref, which alone is not shortened.
const (
	briefNames   = `actor, email, token_type, address, action, method, target_type, target, outcome, status, event`
	briefHolders = `?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?`
	briefSets    = `actor = ?, email = ?, token_type = ?, address = ?, action = ?, method = ?, target_type = ?, target = ?, outcome = ?, status = ?, event = ?`
	briefArgs    = 11
)

// briefValues appends the values of these columns.
func briefValues(to []any, e *audit.Entry) []any {
	b := e.Brief()
	var address, event any
	if b.Address != nil {
		address = b.Address
	}
	if e.IsEvent() {
		event = 1
	}
	return append(to, unknown(b.Actor), unknown(b.Email), unknown(string(b.TokenType)), address, unknown(b.Action), unknown(b.Method),
		unknown(b.TargetType), unknown(b.Target), unknown(string(b.Outcome)), b.Status, event)
}

// ownerOf is whose a row is: what was captured, or else stamped.
func ownerOf(captured, stamped organization) audit.Owner {
	if id := or(captured.id, stamped.id); id != "" {
		return audit.OwnerByID(id)
	}
	return audit.OwnerBySlug(or(captured.slug, stamped.slug))
}

// named says that there are entries of an owner with a slug. That the owner which a slug
// alone stands for has them goes without saying, so that whoever makes slugs up in paths
// makes nothing grow but the entries.
type named struct {
	slug  string
	owner audit.Owner
}

// maxNamed bounds the pairs that a Store remembers to have written. A test makes it smaller.
var maxNamed = 4096

// name notes a row's slug and owner, to be written with the change.
func (c *change) name(slug string, owner audit.Owner) {
	if slug == "" || owner == audit.OwnerBySlug(slug) {
		return
	}
	n := named{slug, owner}
	if _, known := c.s.named[n]; !known {
		c.named[n] = struct{}{}
	}
}

// writeNamed writes those that are new.
func (c *change) writeNamed() error {
	for n := range c.named {
		if err := c.exec(insertNamed, n.slug, string(n.owner)); err != nil {
			return err
		}
	}
	return nil
}

// remember notes what was committed.
func (c *change) remember() {
	if len(c.s.named)+len(c.named) > maxNamed {
		clear(c.s.named)
	}
	for n := range c.named {
		if len(c.s.named) < maxNamed {
			c.s.named[n] = struct{}{}
		}
	}
}
