// Package oracle is what the programs that ask "is what happened what was
// stored?" share: calls that each have an id of their own, the clients that
// send them, the stub API that notes which of them reach it, and what an entry
// must say of a call.
package oracle

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Call is what the oracle knows of one call. Each id is sent at most once.
type Call struct {
	Kind *Kind
	// Status is what the client read; 0 if no full answer arrived.
	Status int
	// Refused says that the product answered 503 by itself.
	Refused bool
	// Late says that the answer took max_wait or longer: only such an answer to
	// a changing call may have left without its record, and only such a refusal
	// of a read may have come after the API.
	Late bool
	// Reached says that the API got it.
	Reached bool
	// API is what the API answered or was about to; 0 if it broke the
	// connection on purpose.
	API int
	// Held is how long the API was asked to take, if for long.
	Held time.Duration
	// Began and Ended are when it was sent and its answer read.
	Began, Ended time.Time
	// Phase is what went on when it was sent, for people.
	Phase string
}

// Acked says that the client got an answer of the API's to it.
func (c *Call) Acked() bool { return c.Status != 0 && !c.Refused }

// String names it to people.
func (c *Call) String() string {
	s := c.Kind.Method + " " + c.Kind.Template
	if c.Phase != "" {
		s += ", " + c.Phase
	}
	return s
}

// Oracle is the truth: it lives in this process, which nobody kills.
type Oracle struct {
	maxWait time.Duration

	mu       sync.Mutex
	phase    string
	next     uint64
	calls    map[string]*Call
	count    Count
	unasked  int
	timeouts int
}

// Count is how many calls were answered, refused, and answered late.
type Count struct{ Acked, Refused, Late int }

// New knows of no call yet. maxWait is the product's.
func New(maxWait time.Duration) *Oracle {
	return &Oracle{maxWait: maxWait, calls: map[string]*Call{}}
}

// From numbers the calls from n on, so that two oracles never send the same id.
func (o *Oracle) From(n uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.next = n
}

// Phase names what goes on from here on.
func (o *Oracle) Phase(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.phase = name
}

// begin makes a new id for a call of kind k.
func (o *Oracle) begin(k *Kind, held time.Duration) (id string, n uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.next++
	id = k.ID(o.next)
	o.calls[id] = &Call{Kind: k, Held: held, Began: time.Now(), Phase: o.phase}
	return id, o.next
}

// answered notes an answer and returns what is known of its call by now.
func (o *Oracle) answered(id string, status int, refused bool) Call {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.calls[id]
	c.Status, c.Refused, c.Ended = status, refused, time.Now()
	c.Late = c.Ended.Sub(c.Began) >= o.maxWait
	switch {
	case refused:
		o.count.Refused++
	case c.Late:
		o.count.Late++
		o.count.Acked++
	default:
		o.count.Acked++
	}
	return *c
}

func (o *Oracle) timedOut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.timeouts++
}

// Sent counts for the progress line.
func (o *Oracle) Sent() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.calls)
}

// Count is what came back so far.
func (o *Oracle) Count() Count {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.count
}

// Timeouts are answers that neither came nor broke off.
func (o *Oracle) Timeouts() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.timeouts
}

// Unasked are calls that reached the API without having been sent.
func (o *Oracle) Unasked() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.unasked
}

// Snapshot is what is known now, by id.
func (o *Oracle) Snapshot() map[string]*Call {
	o.mu.Lock()
	defer o.mu.Unlock()
	calls := make(map[string]*Call, len(o.calls))
	for id, c := range o.calls {
		copied := *c
		calls[id] = &copied
	}
	return calls
}

// Headers between client and stub API. The product passes them on.
const (
	HeaderID   = "Oracle-Id" // which call it is
	headerN    = "Oracle-Number"
	headerHold = "Oracle-Hold"   // how long to take
	headerStub = "Oracle-Answer" // on answers: the API's own, not the product's
)

// Statuses are answered in turn. 503 is among them: an API's 503 is an
// answer, only the product's own is a refusal.
var Statuses = []int{200, 200, 200, 201, 204, 200, 400, 403, 404, 409, 500, 503}

// ServeHTTP is the stub API. It notes that the call reached it before it
// answers, slowly now and then so that kills find calls in flight, and now
// and then breaks the connection instead.
func (o *Oracle) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get(HeaderID)
	n, err := strconv.ParseUint(r.Header.Get(headerN), 10, 64)
	status := Statuses[n%uint64(len(Statuses))]
	hold, _ := time.ParseDuration(r.Header.Get(headerHold)) // absent is none
	breaks := n%211 == 0 && hold == 0
	if breaks {
		status = 0
	}
	if !o.reach(id, status) || err != nil {
		http.Error(w, "nobody sent this", http.StatusTeapot)
		return
	}
	// One that breaks does so at once: Caddy tries a read again on each idle
	// connection that it has, which would take as often as long.
	if n%61 == 0 && !breaks {
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

func (o *Oracle) reach(id string, status int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.calls[id]
	if c == nil {
		o.unasked++
		return false
	}
	c.Reached, c.API = true, status
	return true
}
