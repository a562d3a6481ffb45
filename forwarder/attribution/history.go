package attribution

import (
	"slices"
	"time"
)

// maxFacts bounds what is remembered of one name's past. Of what lies further back
// nothing is known any more, and nothing newer is said of it.
const maxFacts = 8

// staleAfter is for how long the last thing that was said of a name is believed beyond
// the TTL, where the name's end is known and nobody can be asked any more.
const staleAfter = int64(24 * time.Hour / time.Microsecond)

// fact is what a service has said of a name, and of which calls it is true. Times are
// microseconds since the Unix epoch.
type fact struct {
	// ID and Slug are an organization's: the owner of a project, or itself. Plan is its
	// plan, empty in a project's.
	ID   string `json:"id,omitempty"`
	Slug string `json:"slug,omitempty"`
	Plan string `json:"plan,omitempty"`
	// First and Last are when the service was asked first and last that said so.
	First int64 `json:"first"`
	Last  int64 `json:"last"`
	// From and Until bound the arrival of the calls that it is true of: From <= t < Until.
	// Until is zero while nobody has said anything else: then it is true of calls that
	// arrive within the TTL after Last.
	From  int64 `json:"from,omitempty"`
	Until int64 `json:"until,omitempty"`
}

func (f *fact) says(a answer) bool { return f.ID == a.id && f.Slug == a.slug && f.Plan == a.plan }

// knowledge is what is known of a name at a time.
type knowledge byte

const (
	// unknown means that an answer may tell.
	unknown knowledge = iota
	// known means that there is a fact.
	known
	// absent means that the service has said that there is no such thing.
	absent
	// lost means that no answer can tell any more: an answer is about what is, and there
	// was a change since then.
	lost
)

// history is what is known of a name, over time. Facts follow one another without
// overlap, oldest first. The zero value knows nothing.
type history struct {
	facts []fact
	// since is when the name changed hands last, as somebody told us: an answer says
	// nothing of what was before. Zero is never.
	since int64
	// none is when the service was asked last that said that there is no such thing.
	none int64
	// used says that a fact was used for a call that arrived after its Last, so that it
	// must be asked for once more.
	used bool
}

// at is what is true of a call that arrived then. Where the answer changed between two
// questions, and the call arrived between them, other is the fact on the other side: one
// of the two is true, and nobody can say which.
func (h *history) at(t, ttl, negativeTTL int64) (f, other *fact, k knowledge) {
	last := len(h.facts) - 1
	for i := last; i >= 0; i-- {
		f := &h.facts[i]
		if t < f.From {
			continue
		}
		if f.Until == 0 && t <= f.Last+ttl || t < f.Until {
			switch {
			case h.since != 0: // what hands it over says when
			case t > f.Last && i < last:
				other = &h.facts[i+1]
			case t < f.First && i > 0:
				other = &h.facts[i-1]
			}
			return f, other, known
		}
		if i < last {
			return nil, nil, lost
		}
		break
	}
	switch {
	case t < h.since, last >= 0 && t < h.facts[last].From:
		return nil, nil, lost
	case h.none != 0 && t <= h.none+negativeTTL:
		return nil, nil, absent
	}
	return nil, nil, unknown
}

// before is the last fact that was learned before then, whether or not it is true of a call
// that arrived then; nil if there is none.
func (h *history) before(t int64) *fact {
	for i := len(h.facts) - 1; i >= 0; i-- {
		if f := &h.facts[i]; f.First <= t {
			return f
		}
	}
	return nil
}

// latest is when something was learned last.
func (h *history) latest() int64 {
	last := max(h.since, h.none)
	if n := len(h.facts); n > 0 {
		last = max(last, h.facts[n-1].Last)
	}
	return last
}

// open is the fact that holds now; nil if there is none.
func (h *history) open() *fact {
	if n := len(h.facts); n > 0 && h.facts[n-1].Until == 0 {
		return &h.facts[n-1]
	}
	return nil
}

// learn takes an answer to a question that was sent then. It returns the fact that it
// puts an end to, if it says something else than the last one did.
func (h *history) learn(a answer, sent, ttl int64) (was fact, changed bool) {
	if sent < h.since {
		return fact{}, false // it may be about the time before
	}
	f, n := h.open(), len(h.facts)
	switch {
	case f != nil && f.Last > sent:
		return fact{}, false // a later one has come by another name
	case f != nil && f.says(a):
		f.Last = sent
	case f == nil && n > 0 && h.facts[n-1].says(a) && h.since <= h.facts[n-1].First:
		h.facts[n-1].Until, h.facts[n-1].Last = 0, sent // it had been away
	default:
		next := fact{ID: a.id, Slug: a.slug, Plan: a.plan, First: sent, Last: sent, From: h.since}
		if f != nil {
			// Who called in between has been told the old one while it was believed.
			was, changed = *f, true
			f.Until = max(f.From, min(f.Last+ttl, sent)) + 1
		}
		if n > 0 {
			next.From = max(h.since, h.facts[n-1].Until)
		}
		if n == maxFacts {
			h.facts = slices.Delete(h.facts, 0, 1)
		}
		h.facts = append(h.facts, next)
	}
	h.used, h.none = false, 0
	return was, changed
}

// gone takes the answer that there is no such thing. What is gone was the last owner's
// until then: nobody else can have deleted it.
func (h *history) gone(sent, ttl int64) {
	if sent < h.since {
		return
	}
	if f := h.open(); f != nil {
		if f.Last > sent {
			return
		}
		f.end(sent+1, ttl)
	}
	h.used, h.none = false, sent
}

// moved takes that the name changed hands in a call that arrived and was answered then.
// What was known ends with that; what was asked in between may be about before or after.
func (h *history) moved(arrived, answered, ttl int64) {
	if answered <= h.since {
		return
	}
	if f := h.open(); f != nil && f.First >= arrived {
		h.facts = h.facts[:len(h.facts)-1]
		if n := len(h.facts); n > 0 && h.facts[n-1].Until > h.since {
			h.facts[n-1].Until = 0
		}
	}
	if f := h.open(); f != nil {
		f.Last = max(f.First, min(f.Last, arrived))
		f.end(answered, ttl)
	}
	h.since, h.none, h.used = answered, 0, false
}

// end ends a fact that nobody has contradicted. One that was said within a day is
// believed up to there; an older one no longer than it would have been.
func (f *fact) end(at, ttl int64) {
	if at > f.Last+max(ttl, staleAfter) {
		at = f.Last + ttl + 1
	}
	f.Until = max(at, f.From+1)
}
