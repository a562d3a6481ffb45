package attribution

import (
	"container/heap"
	"time"
)

// refreshRetry is after which time an organization's plan is asked for again that could
// not be refreshed.
const refreshRetry = time.Minute

// refreshPause is the least time between two looks at what is due.
const refreshPause = time.Second

// due is an organization whose plan is to be asked for again then, by its id or slug. It
// was used since it was asked for last, so that a change would concern stored entries.
type due struct {
	at     int64 // microseconds since the Unix epoch
	record *record
	byID   bool
}

// schedule has what is due first at its head.
type schedule []due

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].at < s[j].at }
func (s schedule) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }

// Push implements heap.Interface.
func (s *schedule) Push(x any) { *s = append(*s, x.(due)) }

// Pop implements heap.Interface.
func (s *schedule) Pop() any {
	last := len(*s) - 1
	x := (*s)[last]
	(*s)[last] = due{}
	*s = (*s)[:last]
	return x
}

// use notes that a fact was used for a call that came after it was learned.
func (d *Directory) use(t *table, r *record) {
	if t == d.projects || r.used && r.scheduled {
		return // a project's owner is asked for when the next call comes
	}
	f := r.open()
	if t == d.slugs && f.ID != "" {
		return // its id's is
	}
	r.used, d.dirty = true, true
	d.plan(r, f.Last+d.set.ttl+1, t == d.ids)
}

// plan schedules a refresh. It is called with the lock held.
func (d *Directory) plan(r *record, at int64, byID bool) {
	if r.scheduled || d.closed {
		return
	}
	r.scheduled = true
	heap.Push(&d.schedule, due{at, r, byID})
	d.setAlarm()
}

func (d *Directory) setAlarm() {
	if len(d.schedule) == 0 || d.closed {
		return
	}
	// What is due already had no room, or the machine slept.
	at := max(d.schedule[0].at, time.Now().Add(refreshPause).UnixMicro())
	if d.alarmTime != 0 && d.alarmTime <= at {
		return
	}
	d.alarmTime = at
	left := time.Until(time.UnixMicro(at))
	if d.alarm == nil {
		d.alarm = time.AfterFunc(left, d.refresh)
		return
	}
	d.alarm.Reset(left)
}

// refresh asks for what is due, and leaves room for the questions of calls.
func (d *Directory) refresh() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.alarmTime = 0
	now := time.Now().UnixMicro()
	for len(d.schedule) > 0 && d.schedule[0].at <= now && len(d.open) < maxWaiting/2 && !d.closed {
		item, _ := heap.Pop(&d.schedule).(due)
		r := item.record
		r.scheduled = false
		t := d.slugs
		if item.byID {
			t = d.ids
		}
		f, l := r.open(), d.set.Organizations
		if f == nil || l == nil || !r.used || t.records[r.name] != r {
			continue
		}
		at := f.Last + d.set.ttl + 1 // it may have been asked for meanwhile, and used again
		if at <= now {
			at = now + refreshRetry.Microseconds()
			if k := d.nameOf(r, f, item.byID); l.Pattern(k.name) {
				d.ask(k)
			}
		}
		d.plan(r, at, item.byID)
	}
	d.setAlarm()
}

// nameOf is how an organization is asked for.
func (d *Directory) nameOf(r *record, f *fact, byID bool) key {
	l := d.set.Organizations
	switch {
	case !byID:
		return key{kind: KindOrganization, name: r.name}
	case f.Slug != "" && l != nil && l.Pattern(f.Slug):
		return key{kind: KindOrganization, name: f.Slug}
	}
	return key{kind: KindOrganization, name: r.name, byID: true}
}
