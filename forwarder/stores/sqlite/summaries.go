package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/summary"
)

// schema4 is what version 4 adds: what does not occur among an owner's entries, stretch by
// stretch, so that who looks for it passes them over.
//
// A stretch has the entries behind the one before it, up to that with its own place, which
// may be gone by now. The first begins with the owner's first entry, and behind the last
// one are those that are not summarized yet. So each entry that comes to an owner later is
// in one stretch or behind all of them; in the same transaction its summary is told of it.
// A summary may be removed only when its stretch has no entry: the next one's stretch gets
// longer by it.
const schema4 = `
CREATE TABLE summary (
	owner     TEXT    NOT NULL,
	kind      INTEGER NOT NULL, -- 0: of the values in Briefs, 1: of texts
	timestamp INTEGER NOT NULL, -- of the stretch's last entry
	id        TEXT    NOT NULL,
	entries   INTEGER NOT NULL, -- that it was told of
	filter    BLOB    NOT NULL, -- see summary.Filter
	PRIMARY KEY (owner, kind, timestamp, id)
) WITHOUT ROWID;
`

const (
	kindValues = 0
	kindTexts  = 1
)

// The statements that summaries need, see statements.
var (
	selectLasts = `WITH RECURSIVE o(owner) AS (SELECT min(owner) FROM summary
		UNION ALL SELECT (SELECT min(owner) FROM summary WHERE owner > o.owner) FROM o WHERE o.owner IS NOT NULL)
	SELECT owner, (SELECT timestamp FROM summary AS s WHERE s.owner = o.owner AND s.kind = 0 ORDER BY s.timestamp DESC, s.id DESC LIMIT 1)
	FROM o WHERE owner IS NOT NULL`
	countSummary  = `INSERT INTO state (name, value) VALUES ('` + stateSummaries + `', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1`
	selectTold    = `SELECT ifnull(owner, ''), document, ` + tagColumns + `, ` + selectBrief + ` FROM entry WHERE key = ?`
	selectSummary = `SELECT timestamp, id, filter FROM summary WHERE owner = ? AND kind = ? AND (timestamp, id) >= (?, ?) ORDER BY timestamp, id LIMIT 1`
	tellSummary   = `UPDATE summary SET entries = entries + ?, filter = ? WHERE owner = ? AND kind = ? AND timestamp = ? AND id = ?`
	putSummary    = `INSERT INTO summary (owner, kind, timestamp, id, entries, filter) VALUES (?, ?, ?, ?, ?, ?)
	ON CONFLICT (owner, kind, timestamp, id) DO UPDATE SET entries = excluded.entries, filter = excluded.filter`
	deleteSummary = `DELETE FROM summary WHERE owner = ? AND kind IN (0, 1) AND timestamp = ? AND id = ?`
	setEntries    = `UPDATE summary SET entries = ? WHERE owner = ? AND kind IN (0, 1) AND timestamp = ? AND id = ?`
	selectFirst   = `SELECT timestamp, id FROM summary WHERE owner = ? AND kind = 0 ORDER BY timestamp, id LIMIT 1`
	selectLast    = `SELECT timestamp, id FROM summary WHERE owner = ? AND kind = 0 ORDER BY timestamp DESC, id DESC LIMIT 1`
	selectEarlier = `SELECT timestamp, id FROM summary WHERE owner = ? AND kind = 0 AND (timestamp, id) < (?, ?) ORDER BY timestamp DESC, id DESC LIMIT 1`
	selectLong    = `SELECT timestamp, id, entries FROM summary WHERE owner = ? AND kind = 0 AND entries > ? ORDER BY timestamp, id LIMIT 1`
	selectUpTo    = `SELECT 1 FROM entry WHERE owner = ? AND (timestamp, id) <= (?, ?) ORDER BY timestamp, id LIMIT 1`
	selectStretch = `SELECT ifnull(owner, ''), document, ` + tagColumns + `, ` + selectBrief + ` FROM entry
	WHERE owner = ? AND (timestamp, id) > (?, ?) AND (timestamp, id) <= (?, ?) ORDER BY timestamp, id LIMIT ?`
	selectEnough    = `SELECT timestamp FROM entry WHERE owner = ? AND (timestamp, id) > (?, ?) ORDER BY timestamp, id LIMIT 1 OFFSET ?`
	selectNextOwner = `SELECT min(o) FROM (SELECT min(owner) AS o FROM entry WHERE owner > ?1 UNION ALL SELECT min(owner) FROM summary WHERE owner > ?1)`
)

var summaryStatements = []string{
	selectLasts, countSummary, selectTold, selectSummary, tellSummary, putSummary, deleteSummary, setEntries, selectFirst, selectLast,
	selectEarlier, selectLong, selectUpTo, selectStretch, selectEnough, selectNextOwner,
}

// told is an entry that summaries are told of.
type told struct {
	owner audit.Owner
	brief audit.Brief
	entry *audit.Entry // nil if nobody can decode it
	fresh bool         // it was not there before
}

func (t *told) place() forwarder.Place {
	return forwarder.Place{Timestamp: t.brief.Timestamp, ID: t.brief.ID}
}

// scanTold reads a row of selectTold or selectStretch. The values are those of the columns,
// since it is these that are searched.
func scanTold(row interface{ Scan(...any) error }, u *unpacker) (t told, err error) {
	var document []byte
	var g tag
	var packed string
	b := &t.brief
	if err := row.Scan(append(g.into(&t.owner, &document), &b.Timestamp, &b.ID, &b.Status, &packed)...); err != nil {
		return t, err
	}
	if err := u.unpack(b, packed); err != nil {
		return t, err
	}
	b.Project = audit.BriefText(b.Project)
	e, err := audit.Decode(document)
	if err != nil {
		return t, nil //nolint:nilerr // it is told as one that nobody can read
	}
	t.entry = e
	if s := g.stamp(); s != nil {
		s.On(t.entry)
	}
	return t, nil
}

// know reads what summaries there are, unless that is known.
func (c *change) know() error {
	var made int64
	if err := c.row(selectState, stateSummaries).Scan(&made); err != nil || made == c.s.summarized.made {
		return err
	}
	rows, err := c.query(selectLasts)
	if err != nil {
		return err
	}
	defer rows.Close()
	last := map[audit.Owner]int64{}
	for rows.Next() {
		var owner audit.Owner
		var at int64
		if err := rows.Scan(&owner, &at); err != nil {
			return err
		}
		last[owner] = at
	}
	if err := rows.Err(); err != nil {
		return err // what is known of only some of them would hide entries
	}
	c.s.summarized.made, c.s.summarized.last = made, last
	return nil
}

// tell notes that a row is to be told to the summary of its stretch, if it is in one: each
// statement that sets its owner, its arrival, its membership or its document is followed
// by it. A row that was not there before is fresh.
func (c *change) tell(r *row, fresh bool) {
	last, ok := c.s.summarized.last[r.owner]
	switch {
	case r.owner == "":
	case ok && r.timestamp <= last:
		if c.told == nil {
			c.told = map[int64]bool{}
		}
		c.told[r.key] = c.told[r.key] || fresh
	case fresh:
		if c.fresh == nil {
			c.fresh = map[audit.Owner]int{}
		}
		c.fresh[r.owner]++
	}
}

// tellSummaries tells the summaries of the rows that have been noted.
func (c *change) tellSummaries() error {
	if len(c.told) == 0 {
		return nil
	}
	var all []told
	u := unpacker{texts: texts{}}
	for key, fresh := range c.told {
		t, err := scanTold(c.row(selectTold, key), &u)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return err
		}
		t.fresh = fresh
		all = append(all, t)
	}
	// So that each summary is read and written once.
	slices.SortFunc(all, func(a, b told) int { return cmp.Or(cmp.Compare(a.owner, b.owner), a.place().Compare(b.place())) })
	var open openSummary
	for i := range all {
		if err := open.tell(c, &all[i]); err != nil {
			return err
		}
	}
	return open.write(c)
}

// openSummary is the summary that is told of entries now. The zero value is none.
type openSummary struct {
	owner   audit.Owner
	place   forwarder.Place
	summary summary.Summary
	fresh   int // entries that were not there before
}

// tell takes the entries in the order of owners and places.
func (o *openSummary) tell(c *change, t *told) error {
	if o.owner != t.owner || t.place().Compare(o.place) > 0 {
		if err := o.write(c); err != nil {
			return err
		}
		if err := o.read(c, t); errors.Is(err, sql.ErrNoRows) {
			*o = openSummary{}
			return nil // the entry is behind all of them
		} else if err != nil {
			return err
		}
	}
	if t.fresh {
		o.fresh++
	}
	if t.entry == nil {
		o.summary.AddUnknown()
	} else {
		o.summary.Add(&t.brief, t.entry)
	}
	return nil
}

func (o *openSummary) read(c *change, t *told) error {
	at := t.place()
	*o = openSummary{owner: t.owner}
	for kind, f := range []*summary.Filter{kindValues: &o.summary.Values, kindTexts: &o.summary.Texts} {
		err := c.row(selectSummary, string(t.owner), kind, at.Timestamp, at.ID).Scan(&o.place.Timestamp, &o.place.ID, f)
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *openSummary) write(c *change) error {
	if o.owner == "" {
		return nil
	}
	if o.fresh > 0 {
		c.lengthened = append(c.lengthened, o.owner)
	}
	for kind, f := range []summary.Filter{kindValues: o.summary.Values, kindTexts: o.summary.Texts} {
		if err := c.exec(tellSummary, o.fresh, bytesOf(f), string(o.owner), kind, o.place.Timestamp, o.place.ID); err != nil {
			return err
		}
	}
	return nil
}

// bytesOf is a filter as its column has it, which is never NULL.
func bytesOf(f summary.Filter) []byte {
	if f == nil {
		return []byte{}
	}
	return f
}

// migrate4 makes version 4 of version 3. The summaries are made while the store is used.
func migrate4(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, fmt.Sprintf("%s PRAGMA user_version = %d;", schema4, 4))
	return err
}
