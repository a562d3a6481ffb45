package main

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Every call has an id of its own, which stands in its path and comes back as
// the target of its entry. An id is sent at most once: after a broken
// connection the client goes on with another one.
const (
	project  = "oracleoracleoracleor"
	template = "/v1/projects/{ref}/functions/{function_slug}"
	target   = "edge_function"
)

// methods are sent at random; reads are told by their method.
var methods = []string{"PATCH", "DELETE", "GET"}

func slug(n int) string { return fmt.Sprintf("call-%d", n) }

func path(n int) string {
	return strings.NewReplacer("{ref}", project, "{function_slug}", slug(n)).Replace(template)
}

// end is how a call ended for its client.
type end int

const (
	open     end = iota // it has not, or its client was told to stop
	answered            // a whole answer of the API
	refused             // declined by the product itself
	foreign             // a whole answer that is neither: of nobody, or of another call
	cut                 // a part of an answer
	hung                // nothing within answerTimeout
	// The connection broke before the first byte of an answer. It had carried
	// calls before, or not.
	brokenReused
	brokenFresh
)

// call is what is known of one call.
type call struct {
	method string
	end    end
	status int // what the client read
	times  int // how often it reached the API
	api    int // what the API answered
}

// oracle is the truth: the clients and the API are in this process.
type oracle struct {
	mu    sync.Mutex
	calls []call // by number
	// unasked are calls that reached the API without having been sent.
	unasked int
	// unconnected are why connections were not made.
	unconnected []error
}

func (o *oracle) begin(method string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls = append(o.calls, call{method: method})
	return len(o.calls) - 1
}

func (o *oracle) ended(n int, e end, status int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls[n].end, o.calls[n].status = e, status
}

func (o *oracle) notConnected(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unconnected = append(o.unconnected, err)
}

// sent counts for the progress line.
func (o *oracle) sent() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.calls)
}

func (o *oracle) reach(n, status int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n < 0 || n >= len(o.calls) {
		o.unasked++
		return false
	}
	o.calls[n].times++
	o.calls[n].api = status
	return true
}

// Headers between client and API. The product passes them on.
const (
	headerNumber = "Oracle-Number"
	headerAnswer = "Oracle-Answer" // on answers: the API's own, and to which call
)

// statuses are answered in turn. An API's 503 is an answer, only the
// product's own is a refusal.
var statuses = []int{200, 200, 201, 204, 200, 400, 403, 404, 409, 500, 503}

// ServeHTTP is the API. It notes that the call reached it before it answers;
// some answers take so long that reloads overtake them.
func (o *oracle) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.Header.Get(headerNumber))
	if err != nil {
		n = -1
	}
	status := statuses[max(n, 0)%len(statuses)]
	if !o.reach(n, status) || r.URL.Path != path(n) {
		http.Error(w, "nobody sent this", http.StatusTeapot)
		return
	}
	switch {
	case n%499 == 0:
		time.Sleep(1500 * time.Millisecond)
	case n%31 == 0:
		time.Sleep(time.Duration(20+n%280) * time.Millisecond)
	}
	w.Header().Set(headerAnswer, strconv.Itoa(n))
	w.Header().Set("X-Request-Id", "api-"+slug(n))
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(`{"id":"` + slug(n) + `"}`))
}
