package main

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// call is what the oracle knows of one call. Each id is sent at most once.
type call struct {
	kind *kind
	// status is what the client read; 0 if no full answer arrived.
	status int
	// refused says that the product declined before the API.
	refused bool
	// reached says that the API got it.
	reached bool
	// api is what the API answered or was about to; 0 if it broke the
	// connection on purpose.
	api int
	// held is how long the API was asked to take, if for long.
	held time.Duration
}

func (c *call) acked() bool { return c.status != 0 && !c.refused }

// oracle is the truth: it lives in this process, which nobody kills.
type oracle struct {
	mu       sync.Mutex
	next     uint64
	calls    map[string]*call
	unasked  int // calls that reached the API without having been sent
	timeouts int // answers that neither came nor broke off
}

func newOracle() *oracle { return &oracle{calls: map[string]*call{}} }

// begin makes a new id for a call of kind k.
func (o *oracle) begin(k *kind, held time.Duration) (id string, n uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.next++
	id = k.id(o.next)
	o.calls[id] = &call{kind: k, held: held}
	return id, o.next
}

func (o *oracle) answered(id string, status int, refused bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.calls[id]
	c.status, c.refused = status, refused
}

func (o *oracle) timedOut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.timeouts++
}

// sent counts for the progress line.
func (o *oracle) sent() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.calls)
}

// snapshot is what is known now.
func (o *oracle) snapshot() map[string]*call {
	o.mu.Lock()
	defer o.mu.Unlock()
	calls := make(map[string]*call, len(o.calls))
	for id, c := range o.calls {
		copied := *c
		calls[id] = &copied
	}
	return calls
}

// Headers between client and stub API. The product passes them on.
const (
	headerID   = "Oracle-Id"
	headerN    = "Oracle-Number"
	headerHold = "Oracle-Hold"   // how long to take
	headerStub = "Oracle-Answer" // on answers: the API's own, not the product's
)

// statuses are answered in turn. 503 is among them: an API's 503 is an
// answer, only the product's own is a refusal.
var statuses = []int{200, 200, 200, 201, 204, 200, 400, 403, 404, 409, 500, 503}

// ServeHTTP is the stub API. It notes that the call reached it before it
// answers, slowly now and then so that kills find calls in flight, and now
// and then breaks the connection instead.
func (o *oracle) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get(headerID)
	n, err := strconv.ParseUint(r.Header.Get(headerN), 10, 64)
	status := statuses[n%uint64(len(statuses))]
	hold, _ := time.ParseDuration(r.Header.Get(headerHold)) // absent is none
	breaks := n%211 == 0 && hold == 0
	if breaks {
		status = 0
	}
	if !o.reach(id, status) || err != nil {
		http.Error(w, "nobody sent this", http.StatusTeapot)
		return
	}
	if n%61 == 0 {
		hold += time.Duration(20+n%280) * time.Millisecond
	}
	if hold > 0 {
		select {
		case <-time.After(hold):
		case <-r.Context().Done(): // killed
			return
		}
	}
	if breaks {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set(headerStub, id)
	w.Header().Set("X-Request-Id", "api-"+id)
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(`{"id":"` + id + `"}`))
}

func (o *oracle) reach(id string, status int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.calls[id]
	if c == nil {
		o.unasked++
		return false
	}
	c.reached, c.api = true, status
	return true
}
