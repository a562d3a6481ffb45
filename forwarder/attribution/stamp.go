package attribution

import (
	"context"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// Stamp is whose an entry is and how long it is kept, as far as that is known. It never
// waits: what has to be asked for is asked in the background, and until the answer is
// there the stamp is pending. The entry is not changed.
func (d *Directory) Stamp(e *audit.Entry) audit.Stamp {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, _ := d.stamp(e, false)
	return s
}

// Settled is Stamp for good: what is not known by now stays unknown.
func (d *Directory) Settled(e *audit.Entry) audit.Stamp {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, _ := d.stamp(e, true)
	return s
}

// Await waits until an entry's stamp is not pending any more, or ctx is done. Whoever has
// several entries should call Stamp with each of them first, so that one does not wait for
// another one's question.
func (d *Directory) Await(ctx context.Context, e *audit.Entry) {
	for ctx.Err() == nil {
		d.mu.Lock()
		s, w := d.stamp(e, false)
		closed := d.closed
		d.mu.Unlock()
		if !s.Pending || closed {
			return
		}
		timer := time.NewTimer(w.again)
		select {
		case <-w.done:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// wait is what a pending stamp waits for: a question, or the time to ask it again.
type wait struct {
	done  <-chan struct{}
	again time.Duration
}

// succeeded reports whether the API did what a call asked for. A redirect tells nothing:
// some send everybody to where they may sign in.
func succeeded(e *audit.Entry) bool {
	s := e.Action.Status
	return e.Outcome == audit.OutcomeSuccess && (s >= 200 && s < 300 || s == 101)
}

func isVerified(e *audit.Entry) bool {
	return e.Actor.Verification != audit.VerificationNone && e.Actor.Verification != ""
}

// stamp is called with the lock held. With final it does not hope for answers. Where
// nobody has said how long entries are kept, none has a retention: they can be given one
// when somebody does.
func (d *Directory) stamp(e *audit.Entry, final bool) (s audit.Stamp, w wait) {
	if d.set.Keep == nil {
		defer func() { s.Retention = nil }()
	}
	keep := d.set.keep
	if e.IsEvent() {
		s.Retention = keep.Retention(e, "", false)
		return s, w
	}
	d.settleMoves()
	verified, done := isVerified(e), succeeded(e)
	now := time.Now().UnixMicro()
	// What arrives tomorrow, by a clock that was put right since, arrived now.
	c := caller{d: d, e: e, now: now, at: min(e.Timestamp, now), asks: verified && done, final: final}

	id, slug := e.OrganizationID, e.OrganizationSlug
	if id == "" && slug == "" && e.ProjectRef != "" {
		f, _, k := d.know(d.projects, e.ProjectRef, c.at, now)
		switch k {
		case known:
			id, slug = f.ID, f.Slug
		case unknown:
			c.want(key{kind: KindProject, name: e.ProjectRef}, true)
		}
	}
	var plans [2]string
	named := id != "" || slug != ""
	switch {
	case named:
		id, slug, plans = c.organization(id, slug)
	case c.asks:
		plans[0] = e.OrganizationPlan // the API says it, although of whom it does not say
	}
	if e.OrganizationID == "" {
		s.OrganizationID = id
	}
	if e.OrganizationSlug == "" {
		s.OrganizationSlug = slug
	}
	s.Membership = d.membership(&c, id, slug, verified, done)
	if c.pending {
		s.Pending = true
		s.Retention = keep.Retention(e, "", true)
		return s, c.wait
	}
	s.Retention = d.retention(e, id, slug, plans, s.Membership == audit.MembershipProven || !named)
	return s, w
}

// membership says whether a call is proven to come from a member, and remembers those
// that prove it.
func (d *Directory) membership(c *caller, id, slug string, verified, done bool) audit.Membership {
	e := c.e
	named := id != "" || slug != ""
	switch {
	case !verified && (named || e.ProjectRef != ""):
		return audit.MembershipUnproven
	case !named:
		return ""
	}
	acts := who(&e.Actor)
	switch {
	case done:
		news := d.members.prove(acts, id, c.at, c.now)
		if slug != id {
			news = d.members.prove(acts, slug, c.at, c.now) || news
		}
		d.dirty = d.dirty || news
		return audit.MembershipProven
	case e.Membership == audit.MembershipProven: // and stays so, although proofs are forgotten
		return audit.MembershipProven
	case d.members.proved(acts, id, c.at), d.members.proved(acts, slug, c.at):
		return audit.MembershipProven
	}
	return audit.MembershipUnproven
}

// retention is the tag of an entry about which nothing is awaited any more. Whose
// organization it is counts only where that is trusted, for a member's: anybody can name
// one in a path, and nobody may buy years of storage with that. Where two plans are possible, the one that
// keeps longer counts.
func (d *Directory) retention(e *audit.Entry, id, slug string, plans [2]string, trusted bool) *audit.Retention {
	if !trusted {
		id, slug, plans = "", "", [2]string{}
	}
	if d.set.byOrganization && (id != e.OrganizationID || slug != e.OrganizationSlug) {
		own := *e
		own.OrganizationID, own.OrganizationSlug = id, slug
		e = &own
	}
	r := d.set.keep.Retention(e, plans[0], false)
	if plans[1] != "" {
		if other := d.set.keep.Retention(e, plans[1], false); other.KeepMicros() > r.KeepMicros() {
			r = other
		}
	}
	return r
}

// slack is how far ahead of the clock something may be that was learned.
const slack = int64(time.Minute / time.Microsecond)

// know is what is known of a name for a call that arrived at a time not after now.
func (d *Directory) know(t *table, name string, at, now int64) (f, other *fact, k knowledge) {
	r := t.get(name)
	if r == nil {
		return nil, nil, unknown
	}
	if r.latest() > now+slack {
		// The clock was put back: it would be believed for too long.
		r.history, r.scheduled = history{}, false
		return nil, nil, unknown
	}
	f, other, k = r.at(at, d.set.ttl, d.set.negativeTTL)
	if k == known && at > f.Last && f.Until == 0 {
		d.use(t, r)
	}
	return f, other, k
}

// caller is the call that is stamped, while it is found out whose it is.
type caller struct {
	d *Directory
	e *audit.Entry
	// now is what time it is, and at when the call arrived, not after now.
	now, at int64
	// asks says that questions may be asked for it, final that none is waited for.
	asks, final bool
	pending     bool
	wait        wait
}

// organization completes an organization of which the id or the slug is known, and finds
// its plan, or the two between which it changed. Where nobody can tell, that is none or the
// one that it had last.
func (c *caller) organization(id, slug string) (string, string, [2]string) {
	d, captured := c.d, c.e.OrganizationPlan
	if id == "" {
		f, other, k := d.know(d.slugs, slug, c.at, c.now)
		if k == known && f.ID == "" {
			return id, slug, c.plans(captured, "", slug, f, other)
		}
		if k == known {
			id = f.ID
		}
	}
	if id != "" {
		f, other, k := d.know(d.ids, id, c.at, c.now)
		if k == known {
			if slug == "" {
				slug = f.Slug
			}
			return id, slug, c.plans(captured, id, slug, f, other)
		}
	}
	plans := c.plans(captured, id, slug, nil, nil)
	static := captured == "" && plans[0] != ""
	needsPlan := plans[0] == "" && (d.set.keepNeedsPlan || d.set.NeedsPlan)
	if static || id != "" && !needsPlan {
		return id, slug, plans
	}
	// A service may know an organization by its slug alone, or by either.
	k := key{kind: KindOrganization, name: slug}
	if l := d.set.Organizations; l != nil && (slug == "" || !l.Pattern(slug)) {
		k = key{kind: KindOrganization, name: id, byID: true}
	}
	c.want(k, id == "" || d.set.keepNeedsPlan)
	if plans[0] == "" && d.set.keepNeedsPlan && !c.pending {
		plans[1] = c.lastPlan(id, slug)
	}
	return id, slug, plans
}

// lastPlan is what an organization had by the last answer before the call, however long ago
// that was; empty if there is none. It is for a call whose own plan nobody can tell: if the
// lookup is down for days, most plans stay what they were.
func (c *caller) lastPlan(id, slug string) string {
	for _, of := range []struct {
		t    *table
		name string
	}{{c.d.ids, id}, {c.d.slugs, slug}} {
		if r := of.t.get(of.name); r != nil {
			if f := r.before(c.at); f != nil {
				return f.Plan
			}
		}
	}
	return ""
}

// plans are in the order of belief: what the API or a token said with the call, what the
// configuration says, what was asked for.
func (c *caller) plans(captured, id, slug string, f, other *fact) [2]string {
	static := c.d.set.Static
	switch {
	case captured != "":
		return [2]string{captured}
	case id != "" && static[id] != "":
		return [2]string{static[id]}
	case slug != "" && static[slug] != "":
		return [2]string{static[slug]}
	case f == nil:
		return [2]string{}
	case other != nil && other.Plan != f.Plan:
		return [2]string{f.Plan, other.Plan}
	}
	return [2]string{f.Plan}
}

// want asks for something, if that can be asked for, and lets the stamp wait for it where
// it has to.
func (c *caller) want(k key, awaited bool) {
	d := c.d
	l := d.set.lookup(k.kind)
	if !c.asks || l == nil || k.name == "" || !l.Pattern(k.name) {
		return
	}
	if _, _, state := d.know(d.asked(k), k.name, c.at, c.now); state != unknown {
		return // it was asked, and the answer is none for this call
	}
	w := d.ask(k)
	if c.final || !awaited {
		return
	}
	// After a day it is final, but for what nobody has got round to asking yet: the
	// backlog after a store was down for two days is none that the service refused.
	old := c.now-c.e.Timestamp > pendingFor.Microseconds()
	if old && (d.retries[k].failures > 0 || d.health[k.kind].isDown() || d.closed) {
		return
	}
	c.pending, c.wait = true, w
}
