package operator

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// foundRoom is what a foundEntry takes beside its document, in bytes.
const foundRoom = 160

// window collects the buffer's entries of a query. When they are too many it
// gives the half of them that comes later in the query's order up, for another
// window.
type window struct {
	query    forwarder.Query
	mayMatch func([]byte) bool
	entries  map[string]*foundEntry
	bytes    int
	room     int
	cut      bool // the query's end was set nearer
}

func newWindow(q forwarder.Query, room int) *window {
	return &window{query: q, mayMatch: mayMatch(&q), entries: map[string]*foundEntry{}, room: room}
}

func (w *window) add(instance string, sequence uint64, payload []byte) error {
	r, err := forwarder.NewRecord(instance, sequence, payload)
	if err != nil {
		return err
	}
	f := foundIn(r.Entry, r.JSON, &w.query)
	if !w.query.Matches(r.Entry) {
		if !w.isFilteredOut(&r) {
			return nil
		}
		f.doc = nil
	}
	have := w.entries[f.id]
	if have != nil && have.revision >= f.revision {
		return nil
	}
	if have != nil {
		w.bytes -= have.size()
	}
	w.entries[f.id] = f
	if w.bytes += f.size(); w.bytes > w.room {
		w.halve()
	}
	return nil
}

// isFilteredOut reports whether an entry is one of those that the query is for, and its
// filters do not select it. Which organization's it is may not be known in a buffer.
func (w *window) isFilteredOut(r *forwarder.Record) bool {
	whose, filters := w.query, forwarder.Query{Filters: w.query.Filters}
	whose.Filters, whose.Organization = forwarder.Filters{}, ""
	return !filters.Matches(r.Entry) && whose.Matches(r.Entry)
}

func (f *foundEntry) size() int { return foundRoom + len(f.doc) }

// halve ends the window where its later half begins. Entries of one microsecond
// stay together.
func (w *window) halve() {
	all := w.sorted()
	end := all[len(all)/2].arrival
	if end == all[0].arrival {
		if end = all[len(all)-1].arrival; end == all[0].arrival {
			return
		}
	}
	if w.cut = true; w.query.NewestFirst {
		w.query.From = time.UnixMicro(end + 1)
	} else {
		w.query.To = time.UnixMicro(end)
	}
	for _, f := range all {
		if f.arrival == end || f.arrival > end != w.query.NewestFirst {
			w.bytes -= f.size()
			delete(w.entries, f.id)
		}
	}
}

// sorted are the entries in the query's order.
func (w *window) sorted() []*foundEntry { return slices.SortedFunc(maps.Values(w.entries), w.compare) }

// compare gives the query's order.
func (w *window) compare(f, o *foundEntry) int {
	if w.query.NewestFirst {
		return o.compare(f)
	}
	return f.compare(o)
}

// mayMatch returns a cheap look at an encoded entry, which spares decoding most
// of a buffer. It may take one that does not match, and never the other way.
func mayMatch(q *forwarder.Query) func([]byte) bool {
	hashes := map[string]bool{}
	for _, h := range q.Trail.Hashes {
		hashes[h] = true
	}
	session := member("session_id", q.Trail.Session)
	var all [][]byte
	for name, value := range map[string]string{"session_id": q.Session, "user_id": q.User, "ip": q.IP} {
		if value != "" {
			all = append(all, member(name, value))
		}
	}
	return func(doc []byte) bool {
		for _, m := range all {
			if !bytes.Contains(doc, m) {
				return false
			}
		}
		return q.Trail.IsZero() || hasHash(doc, hashes) || q.Trail.Session != "" && bytes.Contains(doc, session)
	}
}

// member is a text member as an entry's JSON has it.
func member(name, value string) []byte {
	quoted, _ := json.Marshal(value) // a text always has a form
	return append([]byte(`"`+name+`":`), quoted...)
}

func hasHash(doc []byte, hashes map[string]bool) bool {
	for {
		_, rest, ok := bytes.Cut(doc, []byte(`"token_hash":"`))
		if !ok {
			return false
		}
		var hash []byte
		hash, doc, _ = bytes.Cut(rest, []byte(`"`))
		if hashes[string(hash)] {
			return true
		}
	}
}
