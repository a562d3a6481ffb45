package httpstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const (
	// answerTime is what the body of an answer may take. It decides nothing, so no
	// receiver can hold the delivery up by sending it slowly.
	answerTime = 2 * time.Second
	// drained is what is read of the body of a success, in bytes, to keep the connection.
	drained = 64 << 10
)

var errTimeout = errors.New("the time is over")

// Write posts the batch, as one request unless it has entries of several instances or
// more than MaxBody takes. It ends soon after ctx and after Config.Timeout for each
// request.
func (s *Store) Write(ctx context.Context, batch []forwarder.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Err() != nil {
		return &sendError{text: fmt.Sprintf("posting to audit store %q: it is closed", s.target.location())}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closed, cancel)()
	for _, part := range divide(batch, s.c.MaxBody) {
		if err := s.post(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// post makes one request. All that it returns is fit for a log.
func (s *Store) post(ctx context.Context, part []forwarder.Record) error {
	var known secrets
	bounded, cancel := context.WithTimeoutCause(ctx, s.c.Timeout, errTimeout)
	defer cancel()

	r, err := s.request(bounded, part, &known)
	if err == nil {
		err = s.exchange(cancel, r, &known)
	}
	if err == nil {
		return nil
	}
	failure := &sendError{text: fmt.Sprintf("posting entries %d to %d to audit store %q: ", r.first, r.last, s.target.location())}
	var status *statusError
	switch {
	case errors.As(err, &status):
		failure.text += status.Error()
		failure.retryAfter = status.retryAfter
		if s.c.Refused.has(status.status) {
			return &forwarder.RefusedError{Err: failure}
		}
	case s.closed.Err() != nil:
		failure.text += "it is closed"
	case ctx.Err() != nil:
		failure.text += "it was broken off"
		failure.cause = context.Cause(ctx)
	case errors.Is(context.Cause(bounded), errTimeout):
		failure.text += fmt.Sprintf("the receiver did not answer within %s: check that it keeps up, or give it a longer timeout", s.c.Timeout)
	default:
		failure.text += known.clean(err.Error()) + cure(err, s.pool.asked.Load())
	}
	return failure
}

// exchange sends the request and judges the answer. Cancel ends the request.
func (s *Store) exchange(cancel func(), r request, known *secrets) error {
	s.proxy = r.proxy
	transport, err := s.pool.get()
	if err != nil {
		return err
	}
	// The transport and no client around it: it follows no redirect and keeps no cookie.
	answer, err := roundTrip(transport, r)
	complete := r.payload.takeBack()
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	defer time.AfterFunc(answerTime, cancel).Stop()
	if !s.c.Success.has(answer.StatusCode) {
		return s.judge(answer, *known)
	}
	if !complete {
		return fmt.Errorf("the receiver answered %s before it had the whole body: check that it reads it", statusName(answer.StatusCode))
	}
	_, _ = io.CopyN(io.Discard, answer.Body, drained) // the status has said it
	return nil
}

// roundTrip sends the request, again if a connection that was kept fails: the receiver
// has most likely closed it just then, which is no failure of the receiver. Two are kept.
func roundTrip(transport *http.Transport, r request) (*http.Response, error) {
	for try := 1; ; try++ {
		var kept atomic.Bool
		ctx := httptrace.WithClientTrace(r.http.Context(), &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) { kept.Store(info.Reused) },
		})
		again := r.http.Clone(ctx)
		again.Body = r.payload.reader()
		answer, err := transport.RoundTrip(again)
		if err == nil || !kept.Load() || try > maxKept || ctx.Err() != nil {
			return answer, err
		}
	}
}

// statusName is a status with the name that it has in the specification: the
// receiver's own may be anything.
func statusName(status int) string {
	if name := http.StatusText(status); name != "" {
		return fmt.Sprintf("%d %s", status, name)
	}
	return fmt.Sprint(status)
}
