package attribution

import "time"

const (
	// maxMoves bounds the transfers that nobody has looked at yet.
	maxMoves = 10_000
	// maxOffers bounds the projects that are remembered to be on offer, and offeredFor for
	// how long.
	maxOffers  = 10_000
	offeredFor = 30 * 24 * time.Hour
)

// move is a call that handed a project over, or offered it.
type move struct {
	project           string
	arrived, answered int64
	offered           bool
}

// Transferred tells that a project may belong to another organization now, by a call that
// arrived and was answered then: see audit.Operation.Transfers. What was known of it ends
// with that call, which is still the old owner's. Without a project, it is one of those
// that were offered. It is to be told of every such call that may have had its effect, so
// also where nobody knows how it ended: that costs a question at most. What went around
// this sidecar is found when the TTL has passed. It never waits.
func (d *Directory) Transferred(project string, arrived, answered time.Time) {
	d.moved(move{project, arrived.UnixMicro(), answered.UnixMicro(), false})
}

// Offered tells that from now on whoever has a token can take a project over: see
// audit.Operation.Offers. It never waits.
func (d *Directory) Offered(project string, at time.Time) {
	if project != "" {
		d.moved(move{project, at.UnixMicro(), at.UnixMicro(), true})
	}
}

func (d *Directory) moved(m move) {
	d.moves.Lock()
	if len(d.moves.list) >= maxMoves {
		// Nobody looks: forget the older half at once, rather than one each time.
		d.moves.list = append(d.moves.list[:0], d.moves.list[maxMoves/2:]...)
	}
	d.moves.list = append(d.moves.list, m)
	d.moves.any.Store(true)
	d.moves.Unlock()
	if d.mu.TryLock() { // else whoever has it will look, or the next one
		d.settleMoves()
		d.mu.Unlock()
	}
}

// settleMoves takes what was told. It is called with the lock held.
func (d *Directory) settleMoves() {
	if !d.moves.any.Load() {
		return
	}
	d.moves.Lock()
	list := d.moves.list
	d.moves.list = nil
	d.moves.any.Store(false)
	d.moves.Unlock()
	d.dirty = d.dirty || len(list) > 0
	for _, m := range list {
		switch {
		case m.offered:
			d.offer(m.project, m.answered)
		case m.project != "":
			d.hand(m.project, m)
		default:
			for project, since := range d.offers {
				if m.answered-since > offeredFor.Microseconds() {
					delete(d.offers, project)
				} else if since <= m.answered {
					d.hand(project, m)
				}
			}
		}
	}
}

func (d *Directory) hand(project string, m move) {
	if isValue(project) {
		d.projects.make(project).moved(m.arrived, m.answered, d.set.ttl)
	}
}

func (d *Directory) offer(project string, at int64) {
	if !isValue(project) {
		return
	}
	if _, there := d.offers[project]; !there && len(d.offers) >= maxOffers {
		var oldest string
		for other, since := range d.offers {
			if oldest == "" || since < d.offers[oldest] {
				oldest = other
			}
		}
		delete(d.offers, oldest)
	}
	d.offers[project] = at
}
