package attack

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Call is what is known of one call. Each id is sent at most once.
type Call struct {
	Kind *Kind
	// Status is what the client read; 0 if no full answer arrived.
	Status int
	// Refused says that the product declined before the API.
	Refused bool
	// Late says that the answer took max_wait or longer: only such an answer to
	// a changing call may have left without its record.
	Late bool
	// Reached says that the API got it.
	Reached bool
	// API is what the API answered or was about to; 0 if it broke the
	// connection on purpose.
	API int
	// Phase is what went on when it was sent, for people.
	Phase string
}

// Acked says that the client got an answer of the API's.
func (c *Call) Acked() bool { return c.Status != 0 && !c.Refused }

// withheld says that a read was declined after it had waited for the disk in
// vain. It may have reached the API, where it did nothing.
func (c *Call) withheld() bool { return c.Refused && c.Late && c.Kind.read() }

// Witness is the truth: it sees both ends of every call and lives in this
// process, whose memory no fault touches. It is also the stub API.
type Witness struct {
	// MaxWait is the product's max_wait.
	MaxWait time.Duration

	mu       sync.Mutex
	phase    string
	calls    map[string]*Call
	unasked  int // calls that reached the API without having been sent
	timeouts int // answers that neither came nor broke off
	next     uint64
	count    Count
}

// Count is how many calls were answered, refused, and answered late, so far.
type Count struct{ Acked, Refused, Late int }

// NewWitness makes one for a product with that max_wait.
func NewWitness(maxWait time.Duration) *Witness {
	return &Witness{MaxWait: maxWait, calls: map[string]*Call{}}
}

// Phase names what goes on from here on.
func (w *Witness) Phase(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.phase = name
}

// begin makes a new id for a call of kind k.
func (w *Witness) begin(k *Kind) (id string, n uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next++
	id = k.id(w.next)
	w.calls[id] = &Call{Kind: k, Phase: w.phase}
	return id, w.next
}

func (w *Witness) answered(id string, status int, refused bool, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.calls[id]
	c.Status, c.Refused, c.Late = status, refused, took >= w.MaxWait
	if refused {
		w.count.Refused++
	} else {
		w.count.Acked++
		if c.Late {
			w.count.Late++
		}
	}
}

func (w *Witness) timedOut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timeouts++
}

// Count is what came back so far.
func (w *Witness) Count() Count {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

// Headers between client and stub API. The product passes them on.
const (
	headerID   = "Witness-Id"
	headerN    = "Witness-Number"
	headerStub = "Witness-Answer" // on answers: the API's own, not the product's
)

// statuses are answered in turn. 503 is among them: an API's 503 is an
// answer, only the product's own is a refusal.
var statuses = []int{200, 200, 200, 201, 204, 200, 400, 403, 404, 409, 500, 503}

// ServeHTTP is the stub API. It notes that the call reached it before it
// answers, slowly now and then so that faults find calls in flight, and now
// and then breaks the connection instead.
func (w *Witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	id := r.Header.Get(headerID)
	n, err := strconv.ParseUint(r.Header.Get(headerN), 10, 64)
	status := statuses[n%uint64(len(statuses))]
	if n%211 == 0 {
		status = 0
	}
	if !w.reach(id, status) || err != nil {
		http.Error(rw, "nobody sent this", http.StatusTeapot)
		return
	}
	if n%61 == 0 {
		select {
		case <-time.After(time.Duration(20+n%280) * time.Millisecond):
		case <-r.Context().Done(): // killed
			return
		}
	}
	if status == 0 {
		panic(http.ErrAbortHandler)
	}
	rw.Header().Set(headerStub, id)
	rw.Header().Set("X-Request-Id", "api-"+id)
	if status == http.StatusNoContent {
		rw.WriteHeader(status)
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	_, _ = rw.Write([]byte(`{"id":"` + id + `"}`))
}

func (w *Witness) reach(id string, status int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.calls[id]
	if c == nil {
		w.unasked++
		return false
	}
	c.Reached, c.API = true, status
	return true
}
