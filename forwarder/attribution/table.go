package attribution

// table remembers histories by name, a bounded number of them, and forgets the one that
// was asked for least lately. It is not safe for concurrent use.
type table struct {
	max     int
	records map[string]*record
	// newest is a ring: its next is the record used last, its prev the one to forget.
	newest record
}

type record struct {
	history
	name       string
	prev, next *record
	// scheduled says that the schedule of refreshes has it.
	scheduled bool
}

func newTable(limit int) *table {
	t := &table{max: limit, records: map[string]*record{}}
	t.newest.prev, t.newest.next = &t.newest, &t.newest
	return t
}

// get finds a name's record; nil if nothing is known of it.
func (t *table) get(name string) *record {
	r := t.records[name]
	if r != nil && t.newest.next != r {
		r.unlink()
		t.link(r)
	}
	return r
}

// make finds a name's record, or makes one.
func (t *table) make(name string) *record {
	if r := t.get(name); r != nil {
		return r
	}
	if len(t.records) >= t.max {
		oldest := t.newest.prev
		oldest.unlink()
		delete(t.records, oldest.name)
	}
	r := &record{name: name}
	t.records[name] = r
	t.link(r)
	return r
}

func (t *table) link(r *record) {
	r.prev, r.next = &t.newest, t.newest.next
	r.prev.next, r.next.prev = r, r
}

func (r *record) unlink() { r.prev.next, r.next.prev = r.next, r.prev }

// all are the records, the one used least lately first.
func (t *table) all() []*record {
	list := make([]*record, 0, len(t.records))
	for r := t.newest.prev; r != &t.newest; r = r.prev {
		list = append(list, r)
	}
	return list
}
