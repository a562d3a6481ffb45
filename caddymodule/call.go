package caddymodule

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/attribution"
	"github.com/caddy-audit-log/caddy-audit-log/identity"
)

// call is one call on its way through the handler.
type call struct {
	handler *Handler
	request *http.Request
	api     caddyhttp.Handler
	record  *buffer.Call
	facts   audit.Facts

	// mu guards entry from the answer on: what a service says about the
	// credential may come at any time after it.
	mu    sync.Mutex
	entry *audit.Entry
	known *identity.Known
	// directory is told of projects that change hands.
	directory *attribution.Directory
	// selection is what of the call is recorded beside its metadata; nil is
	// nothing.
	selection *audit.Selection
	// body is what passes of the request's body; nil if nobody looks.
	body *capturedBody
	// bodyNoted says that all of it is in the entry.
	bodyNoted bool
	// foldedInto is the id of the entry that stands for this call; empty if it
	// has one of its own.
	foldedInto string // guarded by mu
	// late is a question that the answer did not wait for.
	late *identity.Pending

	// recording is what became of recording the outcome.
	recording recording

	// failed says that the handlers behind returned an error and wrote nothing.
	failed bool
}

// recording is an outcome on its way to the disk.
type recording struct {
	err     error
	took    time.Duration // until the buffer had it
	settled bool          // and it was waited for
}

// room is what the buffer keeps free for the call's end.
func (c *call) room() int {
	if c.selection == nil {
		return reserveBytes
	}
	return min(reserveBytes+2*c.handler.captureLimit, buffer.MaxPayload)
}

// caller is who calls, for the share of those who are not known.
func (c *call) caller() buffer.Caller {
	if c.known.Has(&c.entry.Actor) {
		return buffer.Caller{Known: true}
	}
	return buffer.Caller{Network: networkOf(c.entry.Actor.IP)}
}

// begin makes the intent durable. After an error the call is refused, and an
// entry that says so is recorded as soon as the disk takes it.
func (c *call) begin() error {
	start := time.Now()
	intent, err := c.entry.Encode()
	if err == nil {
		err = c.record.Begin(intent)
	}
	waited(intentOverhead, time.Since(start))
	if err == nil {
		return nil
	}
	c.entry.Refused(time.Now(), http.StatusServiceUnavailable)
	if refused, encodeErr := c.entry.Encode(); encodeErr == nil {
		_ = c.record.Refuse(refused)
	}
	return err
}

// serve hands the call on and sees to it that its outcome is recorded, however
// the handlers behind end.
func (c *call) serve(w http.ResponseWriter) (err error) {
	trusted := c.handler.trusted
	var rw *responseWriter
	rw = newResponseWriter(w, c.request, trusted, func(h http.Header, status int) { c.headers(rw, h, status) })
	rw.settle = func(h http.Header) bool { return c.headersLeave(rw, h) }
	if op := c.facts.Operation; op != nil && op.Born != "" {
		rw.born = c.born
		// What is to be read must not be encoded.
		c.request.Header.Set("Accept-Encoding", "identity")
	}
	defer func() {
		trusted.strip(w.Header()) // trailers, and what an error route would send on
		if p := recover(); p != nil {
			_ = rw.end()                                  // as much as there is: the panic cuts it
			if rw.withheld && p == http.ErrAbortHandler { //nolint:errorlint // a panic's value, compared as net/http does
				return // the proxy gives up what we do not let out
			}
			c.panicked(rw)
			panic(p)
		}
	}()
	err = c.api.ServeHTTP(rw, c.request)
	_ = rw.end() // shorter than announced; the server will cut it
	if rw.withheld {
		return nil
	}
	if !c.returned(rw, err) {
		return withhold(w)
	}
	return err // as it is: Caddy asserts its type
}

// returned records what the handlers behind did not write, before the answer
// to it can leave, or what changed after the headers. It reports false if the answer
// must not leave.
func (c *call) returned(rw *responseWriter, err error) bool {
	if rw.committed {
		c.ended(rw)
		return true
	}
	a := audit.Answer{At: time.Now(), Status: http.StatusOK, Source: audit.StatusDefault, Bytes: 0}
	if err != nil {
		a.Status, a.Source, a.Bytes = http.StatusInternalServerError, audit.StatusError, -1
		var he caddyhttp.HandlerError
		if errors.As(err, &he) && he.StatusCode != 0 {
			a.Status = he.StatusCode
		}
	}
	a.ClientGone = c.request.Context().Err() != nil
	c.failed = err != nil
	return c.answered(a)
}

// again serves a call that a handler of ours has in hand. On its way to the API
// there is nothing to add. In an error route, though, the answer is written
// that the client really gets; where its status differs from the error's, which
// is on record, a further revision says so before it leaves.
func (c *call) again(h *Handler, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	trusted := h.trusted
	trusted.stripRequest(r)
	if !c.failed {
		if len(trusted) == 0 {
			return next.ServeHTTP(w, r)
		}
		defer trusted.strip(w.Header())
		return next.ServeHTTP(newResponseWriter(w, r, trusted, func(answer http.Header, _ int) { c.assert(trusted.values(answer)) }), r)
	}
	defer trusted.strip(w.Header())
	return next.ServeHTTP(newResponseWriter(w, r, trusted, c.errorAnswered), r)
}

// errorAnswered records the status that an error route writes.
func (c *call) errorAnswered(h http.Header, status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.foldedInto != "" || status == c.entry.Action.Status {
		return
	}
	c.entry.Answered(audit.Answer{
		At: time.Now(), Status: status, Source: audit.StatusWritten, Bytes: contentLength(h), ClientGone: c.entry.ClientGone,
		Changing: c.facts.Changing, Platform: c.handler.platform,
	})
	if err := c.handler.append(c.entry); err != nil {
		c.handler.log.Error("recording the answer of an error route; the entry stands with the error's status",
			"id", c.entry.ID, "error", err)
	}
}

// append records a revision of a call that has been released, and the buffer with
// it.
func (h *Handler) append(e *audit.Entry) error {
	s, err := h.app.hold()
	if err != nil {
		return err
	}
	defer s.release()
	payload, err := e.Encode()
	if err != nil {
		return err
	}
	return s.buf.Append(payload)
}

// assert takes what the API says about who acted.
func (c *call) assert(said map[string]string) {
	if len(said) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entry.Assert(c.handler.platform, said)
}

// identify asks whose the credential is, if that can be asked and the API has
// not refused it, and waits as long as the site allows. The answer to a
// credential that nobody knows costs nobody a question.
func (c *call) identify(status int) {
	q := &c.facts.Question
	if c.handler.lookups == nil || !q.Asks() || status == http.StatusUnauthorized || c.entry.Actor.Verification == audit.VerificationAsserted {
		return
	}
	p := c.handler.lookups.Ask(*q)
	c.facts.Question = audit.Question{}
	if p == nil {
		return
	}
	if id, why, ok := p.Wait(c.request.Context()); ok {
		c.entry.Learned(id, why)
	} else {
		c.late = p
	}
}

// learned records what a service said after the answer had left. That it said
// nothing is not worth a revision.
func (c *call) learned(id *audit.Identity, _ audit.Reason) {
	if id == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.entry.Learned(id, "") {
		return
	}
	c.known.Accepted(&c.entry.Actor)
	c.entry.Revised(time.Now())
	if err := c.handler.append(c.entry); err != nil && !errors.Is(err, buffer.ErrSlow) {
		c.handler.log.Error("recording who made a call; its entry stands with the credential alone", "id", c.entry.ID, "error", err)
	}
}

// panicked records a call whose handlers ended in a panic, as the reverse proxy
// does when the API dies in the middle of its answer.
func (c *call) panicked(rw *responseWriter) {
	if !rw.committed {
		c.answered(audit.Answer{At: time.Now(), Bytes: -1, ClientGone: c.request.Context().Err() != nil})
		return
	}
	c.mu.Lock()
	if c.foldedInto == "" {
		c.note("aborted", true)
	}
	c.mu.Unlock()
	c.revise(rw)
}

// ended records a further revision if the end of the answer differs from what
// its headers said.
func (c *call) ended(rw *responseWriter) {
	c.mu.Lock()
	if c.foldedInto != "" {
		c.mu.Unlock()
		return
	}
	announced := c.entry.ResponseBytes
	more := c.captured() // the API answered before it had read all of the body
	more = c.capturedResponse(rw) || more
	c.mu.Unlock()
	switch {
	case more, rw.hijacked, rw.failed, announced != nil && *announced != rw.sent.Load():
		c.revise(rw)
	}
}

// revise appends a revision with what is known at the end. Nobody waits for it.
func (c *call) revise(rw *responseWriter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.foldedInto != "" {
		return
	}
	c.entry.Answered(audit.Answer{
		At: time.Now(), Status: c.entry.Action.Status, Source: c.entry.Action.StatusSource,
		Bytes: rw.sent.Load(), ClientGone: c.entry.ClientGone || rw.failed, Changing: c.facts.Changing,
	})
	payload, err := c.entry.Encode()
	if err == nil {
		err = c.record.AppendLater(payload)
	}
	if err != nil {
		c.handler.log.Error("recording the end of a call; its entry stands as it was at the headers",
			"id", c.entry.ID, "error", err)
	}
}

// answered makes the outcome durable before it returns; see settled.
func (c *call) answered(a audit.Answer) (leave bool) {
	c.outcome(a)
	return c.settled()
}

// outcome has the outcome recorded. It waits for a service that is asked, and for the entry
// of a fold, but not for the disk to have the call's own. settled must follow.
func (c *call) outcome(a audit.Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a.Platform = c.handler.platform
	a.Changing, a.Secured = c.facts.Changing, c.facts.Operation != nil && c.facts.Operation.Secured
	c.entry.Answered(a)
	c.known.Accepted(&c.entry.Actor)
	if c.handler.platform.Catalog == nil && a.Status >= 200 && a.Status < 300 {
		c.known.Succeeded(&c.entry.Actor)
	}
	c.handedOver()
	c.recordOrFold(a)
}

// settled waits until the outcome is durable. If the disk does not take it
// within max_wait, the answer to a call that may have changed something leaves all
// the same: a client must never be told to repeat what was done. It reports false
// when the answer must not leave: that of a read of which nothing is on the disk,
// unless on_fault lets calls pass.
func (c *call) settled() (leave bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.foldedInto != "" {
		return true
	}
	err := c.waitForOutcome()
	if c.late != nil {
		c.late.Then(c.learned)
	}
	if err == nil {
		return true
	}
	if !errors.Is(err, buffer.ErrSlow) {
		c.handler.log.Error("recording the outcome of a call", "id", c.entry.ID, "error", err)
	}
	if !c.facts.Changing && !c.record.Intended() && !c.record.Lenient() && c.entry.Policy.Durability != audit.DurabilityRelaxed {
		c.withhold()
		return false
	}
	lateAnswers.Inc()
	return true
}

// handedOver tells of a project that may belong to another organization after this call.
// Of a call that nobody knows the end of, only a known caller's counts: whoever leaves
// before the answer could make us forget any project's owner.
func (c *call) handedOver() {
	op := c.facts.Operation
	if op == nil || !op.Transfers && !op.Offers {
		return
	}
	switch c.entry.Outcome {
	case audit.OutcomeSuccess:
	case audit.OutcomeUnknown:
		if !c.known.Has(&c.entry.Actor) {
			return
		}
	default:
		return
	}
	at := time.UnixMicro(c.entry.RecordedAt)
	if op.Offers {
		c.directory.Offered(c.entry.ProjectRef, at)
	} else {
		c.directory.Transferred(c.entry.ProjectRef, time.UnixMicro(c.entry.Timestamp), at)
	}
}

// withhold has the entry say, once the disk takes anything again, that the client
// never got the answer. The caller holds mu.
func (c *call) withhold() {
	withheldAnswers.Inc()
	c.note("withheld", c.entry.Action.Status)
	c.entry.Refused(time.Now(), http.StatusServiceUnavailable)
	payload, err := c.entry.Encode()
	if err == nil {
		err = c.record.AppendLater(payload)
	}
	if err != nil {
		c.handler.log.Error("recording that an answer was withheld", "id", c.entry.ID, "error", err)
	}
}

// recordOrFold has the outcome recorded, unless an entry stands for it that is durable
// already. What a fold stands on is durable before it returns, since others wait for it.
func (c *call) recordOrFold(a audit.Answer) {
	own, first := c.handler.folds.place(c, a)
	switch {
	case own == nil:
		c.identify(a.Status)
		c.captured()
		c.recordOutcome()
	case first:
		err := errors.New("its recording did not end")
		defer func() { c.handler.folds.founded(own, err) }()
		c.recordOutcome()
		if err = c.waitForOutcome(); err == nil {
			c.foldedInto = own.id // from here on the entry is the fold's
		}
	case c.handler.folds.join(own, c.entry.Actor.TokenHash):
		c.record.Fold()
		c.foldedInto = own.id
	default:
		c.recordOutcome()
	}
}

// recordOutcome gives the entry as it is to the buffer.
func (c *call) recordOutcome() {
	start := time.Now()
	payload, err := c.entry.Encode()
	if err == nil {
		err = c.record.AppendLater(payload)
	}
	c.recording = recording{err: err, took: time.Since(start)}
}

// waitForOutcome waits until what recordOutcome gave is durable, unless nobody waits for
// that.
func (c *call) waitForOutcome() error {
	r := &c.recording
	if r.settled {
		return r.err
	}
	r.settled = true
	start := time.Now()
	if r.err == nil && c.entry.Policy.Durability != audit.DurabilityRelaxed {
		r.err = c.record.Settle()
	}
	waited(outcomeOverhead, r.took+time.Since(start))
	return r.err
}

// note adds a fact to the entry's metadata.
func (c *call) note(name string, value any) {
	if c.entry.Action.Metadata == nil {
		c.entry.Action.Metadata = map[string]any{}
	}
	c.entry.Action.Metadata[name] = value
}

// headers has the answer recorded whose headers are about to be written.
func (c *call) headers(rw *responseWriter, h http.Header, status int) {
	h.Set(auditIDHeader, c.entry.ID) // the API's own, if it sent one back, is gone
	c.assert(c.handler.trusted.values(h))
	if t := c.entry.Target; rw.born != nil && status >= 200 && status < 300 && (t == nil || t.ID == "") {
		c.note("target", "not in the answer")
	}
	a := audit.Answer{
		At: time.Now(), Status: status, Source: audit.StatusWritten, RequestID: h.Get("X-Request-Id"), Bytes: -1,
		ClientGone: c.request.Context().Err() != nil,
	}
	switch {
	case c.request.Method == http.MethodHead, status == http.StatusNoContent, status == http.StatusNotModified:
		a.Bytes = 0 // a length, if there is one, is that of another answer
	default:
		a.Bytes = contentLength(h)
	}
	c.outcome(a)
}

// headersLeave waits until the answer is durable. It reports false if its headers must
// not be written.
func (c *call) headersLeave(rw *responseWriter, h http.Header) bool {
	if !c.settled() {
		return false
	}
	if c.foldedInto != "" {
		h.Set(auditIDHeader, c.foldedInto)
		return true
	}
	c.captureResponse(rw, h)
	return true
}

// born takes the target from the body of its answer.
func (c *call) born(body []byte) {
	c.entry.Born(c.handler.platform, c.facts.Operation.Born, body)
}

// contentLength is the announced length of an answer's body, or -1.
func contentLength(h http.Header) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(h.Get("Content-Length")), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}
