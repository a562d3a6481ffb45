package attribution

import (
	"slices"
	"time"
)

const (
	// maxChanges bounds the changes that are remembered, and changesFor for how long.
	maxChanges = 10_000
	changesFor = 30 * 24 * time.Hour
)

// Change is that an organization was found to have another plan. When it got that is not
// known: entries of its calls that arrived between From and To, both inclusive, may have
// been stamped by the plan before, and are to be stamped again. Stamp knows both plans
// then, and gives what keeps longer.
type Change struct {
	// Number grows from change to change, over restarts too, with gaps.
	Number uint64 `json:"number"`
	// OrganizationID is empty for an organization that its service knows by slug alone.
	OrganizationID   string `json:"organization_id,omitempty"`
	OrganizationSlug string `json:"organization_slug,omitempty"`
	// Before and Plan are what it had and what it has.
	Before string `json:"before"`
	Plan   string `json:"plan"`
	// From and To are when it was asked for last with the old answer, and first with the
	// new one.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Changes are those with a higher number, in the order of their numbers. They are
// remembered for 30 days, the last 10,000 of them.
func (d *Directory) Changes(after uint64) []Change {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forgetChanges(time.Now())
	i, _ := slices.BinarySearchFunc(d.changes, after, func(c Change, n uint64) int {
		if c.Number <= n {
			return -1
		}
		return 1
	})
	return slices.Clone(d.changes[i:])
}

// Changed is the number of the last change, zero if there was none.
func (d *Directory) Changed() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.number
}

// changed notes that a plan has changed, if it has. It is called with the lock held.
func (d *Directory) changed(id, slug string, was fact, a answer, sent int64) {
	if was.Plan == a.plan {
		return
	}
	now := time.Now()
	d.forgetChanges(now)
	// A number is the time where it can be, so that it grows even when the file is lost.
	d.number = max(d.number+1, uint64(max(now.UnixMicro(), 0)))
	d.changes = append(d.changes, Change{
		Number: d.number, OrganizationID: id, OrganizationSlug: slug, Before: was.Plan, Plan: a.plan,
		From: time.UnixMicro(was.Last).UTC(), To: time.UnixMicro(sent).UTC(),
	})
}

func (d *Directory) forgetChanges(now time.Time) {
	n := max(0, len(d.changes)-maxChanges)
	for n < len(d.changes) && now.Sub(d.changes[n].To) > changesFor {
		n++
	}
	if n > 0 {
		d.changes = slices.Delete(d.changes, 0, n)
	}
}
