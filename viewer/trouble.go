package viewer

import (
	"errors"
	"sync"
	"time"
)

// troubleRest is for how long a route must have failed nobody before a trouble of its is
// over: some visitors can be answered while others cannot.
const troubleRest = time.Minute

// troubles are the routes that cannot be answered now, and why. The log has a line when one
// begins and one when it is over, however many visitors try meanwhile. The zero value has
// none. They are safe for concurrent use.
type troubles struct {
	mu  sync.Mutex
	all map[string]*trouble // by the route's name
}

type trouble struct {
	since, last time.Time
	failures    int
	told        map[string]bool // what could not be had; the empty string is all else
}

// failed notes an answer that could not be given, and reports whether it is the first of a
// row for its reason.
func (t *troubles) failed(route string, err error) (begins bool) {
	what := ""
	if away, ok := errors.AsType[*unavailable](err); ok {
		what = away.what
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.all[route]
	if of == nil {
		of = &trouble{since: time.Now(), told: map[string]bool{}}
		if t.all == nil {
			t.all = map[string]*trouble{}
		}
		t.all[route] = of
	}
	of.failures++
	of.last = time.Now()
	begins = !of.told[what]
	of.told[what] = true
	return begins
}

// answered notes an answer, and returns what is over by it, nil if nothing is.
func (t *troubles) answered(route string) *trouble {
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.all[route]
	if of == nil || time.Since(of.last) < troubleRest {
		return nil
	}
	delete(t.all, route)
	return of
}
