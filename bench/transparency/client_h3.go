package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// three is a call over HTTP/3.
type three struct {
	cancel context.CancelFunc
	events chan event
	over   event
	body   *io.PipeWriter
	req    *http.Request
}

func (t target) openThree(r request) (*three, error) {
	// Its end is cut, or the item's; the time is for what is forgotten.
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	s := &three{cancel: cancel, events: make(chan event, 4096)}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			s.events <- event{kind: head, status: code, fields: sorted(http.Header(h))}
			return nil
		},
	})
	req, err := http.NewRequestWithContext(ctx, r.method, "https://"+t.tls+"/", http.NoBody)
	if err != nil {
		cancel()
		return nil, err
	}
	s.req = req
	path, query, hasQuery := strings.Cut(r.path, "?")
	req.URL.Opaque, req.URL.RawQuery, req.URL.ForceQuery = "//"+host+path, query, hasQuery && query == ""
	req.Host = host
	for _, f := range r.fields {
		name, value, _ := strings.Cut(f, ": ")
		if strings.EqualFold(name, "Trailer") {
			req.Trailer = http.Header{} // quic-go announces what is in there
			for n := range strings.SplitSeq(value, ", ") {
				req.Trailer[http.CanonicalHeaderKey(n)] = nil
			}
			continue
		}
		req.Header.Add(name, value)
	}
	if r.connect != "" {
		req.Proto = r.connect
	}
	if r.hasBody() {
		pr, pw := io.Pipe()
		s.body, req.Body, req.ContentLength = pw, pr, r.announced()
	}
	go func() {
		s.run(t.pool.three)
		cancel()
	}()
	return s, nil
}

func (s *three) run(transport *http3.Transport) {
	resp, err := transport.RoundTrip(s.req)
	if err != nil {
		s.events <- event{kind: broken, why: whyThree(err)}
		return
	}
	defer resp.Body.Close()
	fields := sorted(resp.Header)
	if len(resp.Trailer) > 0 {
		var names []string
		for name := range resp.Trailer {
			names = append(names, name)
		}
		slices.Sort(names)
		fields = append(fields, "Trailer: "+strings.Join(names, ", "))
	}
	s.events <- event{kind: head, status: resp.StatusCode, fields: append([]string{resp.Proto + " " + resp.Status}, fields...)}
	for {
		b := make([]byte, 32<<10)
		n, err := resp.Body.Read(b)
		if n > 0 {
			s.events <- event{kind: data, data: b[:n]}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			s.events <- event{kind: broken, why: whyThree(err)}
			return
		}
	}
	if t := sorted(resp.Trailer); len(t) > 0 {
		s.events <- event{kind: trailer, fields: t}
	}
	s.events <- event{kind: end}
}

func whyThree(err error) string {
	if he, ok := errors.AsType[*http3.Error](err); ok {
		return fmt.Sprintf("stream error %#x", uint64(he.ErrorCode))
	}
	return why(err)
}

// sorted lists fields by name: their order is lost before it can be seen.
func sorted(h http.Header) []string {
	var fields []string
	for name, values := range h {
		for _, v := range values {
			fields = append(fields, name+": "+v)
		}
	}
	// Values of one name keep their order.
	slices.SortStableFunc(fields, func(a, b string) int {
		x, _, _ := strings.Cut(a, ":")
		y, _, _ := strings.Cut(b, ":")
		return strings.Compare(x, y)
	})
	return fields
}

func (s *three) send(p []byte) error {
	_, err := s.body.Write(p)
	return err
}

func (s *three) end(fields ...string) error {
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		s.req.Trailer.Set(name, value)
	}
	if s.body == nil {
		return nil
	}
	return s.body.Close()
}

func (s *three) cut() {
	s.cancel()
	if s.body != nil {
		_ = s.body.CloseWithError(context.Canceled)
	}
}

func (s *three) next() event {
	if s.over.ended() {
		return s.over
	}
	select {
	case e := <-s.events:
		if e.ended() {
			s.over = e
		}
		return e
	case <-time.After(patience):
		return event{kind: broken, why: "silence"}
	}
}
