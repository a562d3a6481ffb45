package otlp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient/clienttest"
)

func TestAStatusSaysWhetherABatchIsTakenTriedAgainOrRefused(t *testing.T) {
	r, url := newReceiver(t)
	s := open(t, config(url))
	for _, c := range []struct {
		statuses []int
		want     string
	}{
		{[]int{200, 201, 202, 204, 299}, "taken"},
		{[]int{400, 413, 422}, "refused"},
		{[]int{
			300, 301, 302, 304, 307, 308, 401, 403, 404, 405, 406, 407, 408, 409, 410, 411, 415, 424, 425, 426, 429, 431, 451, 499,
			500, 501, 502, 503, 504, 507, 599, 999,
		}, "tried again"},
	} {
		for _, code := range c.statuses {
			r.answer(answers(code, "", nil))
			err := s.Write(t.Context(), records(t, 1, 2))
			if got := outcome(err); got != c.want {
				t.Errorf("status %d: %s, want %s: %v", code, got, c.want, err)
			}
			if err != nil {
				clienttest.Mentions(t, err, fmt.Sprint(code), "entries 1 to 2", url+"/v1/logs")
			}
		}
	}
}

func TestAFailureSaysWhyAndForHowLongAndWhatToDo(t *testing.T) {
	r, url := newReceiver(t)
	s := open(t, config(url))
	for _, c := range []struct {
		code  int
		media string
		body  []byte
		want  []string
	}{
		{400, mediaProtobuf, statusOf(3, "log record 2 has no body"), []string{`and said "log record 2 has no body"`}},
		{503, mediaProtobuf, statusOf(14, ""), []string{"503 Service Unavailable"}},
		{503, "application/json", []byte(`{"code":14,"message":"busy"}`), []string{"busy"}},
		{502, "text/html", []byte("<h1>Bad gateway</h1>"), []string{"Bad gateway"}},
		{500, mediaProtobuf, []byte("this is no protobuf"), []string{"this is no protobuf"}},
		{401, mediaProtobuf, statusOf(16, "who are you?"), []string{"who are you?", "credential"}},
		{404, "text/plain", []byte("404 page not found"), []string{"/v1/logs below"}},
		{405, "", nil, []string{"/v1/logs below"}},
		{413, "", nil, []string{"max_body"}},
		{415, "", nil, []string{"http/protobuf"}},
	} {
		r.answer(func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Retry-After", "17")
			answers(c.code, c.media, c.body)(w, req)
		})
		err := fails(t, s)
		clienttest.Mentions(t, err, c.want...)
		clienttest.Fit(t, err)
		if got := clienttest.Asked(err); got != 17*time.Second && outcome(err) != "refused" {
			t.Errorf("%d: to come again after %s", c.code, got)
		}
	}
}

func TestASuccessIsOneIfItsBodySaysSo(t *testing.T) {
	full := response(t, 0, "")
	later := protowire.AppendString(protowire.AppendTag(bytes.Clone(full), 99, protowire.BytesType), "of a later version")
	for name, c := range map[string]struct {
		media string
		body  []byte
		want  string
	}{
		"nothing":                      {"", nil, "taken"},
		"nothing, as JSON":             {"application/json", nil, "taken"},
		"nothing, as HTML":             {"text/html", nil, "taken"},
		"a full success":               {mediaProtobuf, full, "taken"},
		"a full success, with charset": {mediaProtobuf + "; charset=utf-8", full, "taken"},
		"a field of a later version":   {mediaProtobuf, later, "taken"},
		"a warning":                    {mediaProtobuf, response(t, 0, "old"), "taken"},
		"a part refused":               {mediaProtobuf, response(t, 1, "no"), "refused"},
		"all refused":                  {mediaProtobuf, response(t, 3, ""), "refused"},
		"more refused than sent":       {mediaProtobuf, response(t, 1<<62, ""), "refused"},
		"a part refused, no type":      {"", response(t, 1, "no"), "refused"},
		"less than none":               {mediaProtobuf, response(t, -1, ""), "tried again"},
		"half of a message":            {mediaProtobuf, response(t, 1, "nobody")[:5], "tried again"},
		"a message that is no text":    {mediaProtobuf, []byte("\x0a\x03\x12\x01\xff"), "tried again"},
		"JSON":                         {"application/json", []byte(`{}`), "taken"},
		"JSON, an empty one":           {"application/json", []byte(`{"partialSuccess":{}}`), "taken"},
		"JSON, refused":                {"application/json", []byte(`{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"no"}}`), "refused"},
		"JSON, refused, a number":      {"application/json", []byte(`{"partialSuccess":{"rejectedLogRecords":2}}`), "refused"},
		"JSON of something else":       {"application/json", []byte(`{"error":"index is read-only"}`), "tried again"},
		"JSON that is no object":       {"application/json", []byte(`[]`), "tried again"},
		"JSON that is deep":            {"application/json", bytes.Repeat([]byte(`{"partialSuccess":`), 3000), "tried again"},
		"JSON with more behind it":     {"application/json", []byte(`{} {}`), "tried again"},
		"a page":                       {"text/html", []byte("<!doctype html><title>Sign in</title>"), "tried again"},
		"a page, no type":              {"", []byte("<!doctype html><title>Sign in</title>"), "tried again"},
		"a word":                       {"text/plain", []byte("ok"), "tried again"},
		"a type that is none":          {";;", []byte("ok"), "tried again"},
		"groups without end":           {mediaProtobuf, bytes.Repeat([]byte{0x0b}, 20000), "tried again"},
		"too much":                     {mediaProtobuf, response(t, 0, strings.Repeat("x", maxResponse)), "tried again"},
		"too much that is refused":     {mediaProtobuf, response(t, 1, strings.Repeat("x", maxResponse)), "tried again"},
	} {
		t.Run(name, func(t *testing.T) {
			r, url := newReceiver(t)
			r.answer(answers(200, c.media, c.body))
			err := open(t, config(url)).Write(t.Context(), records(t, 1, 3))
			if got := outcome(err); got != c.want {
				t.Errorf("%s, want %s: %v", got, c.want, err)
			}
			if err != nil {
				clienttest.Fit(t, err)
			}
			if c.want == "tried again" {
				clienttest.Mentions(t, err, "OTLP receiver")
			}
		})
	}
}

// A receiver that takes a part and does not say which is asked until the entry is found.
func TestTheForwarderFindsWhatAPartialSuccessRefuses(t *testing.T) {
	r, url := newReceiver(t)
	const bad = "0198c0de-0000-7000-8000-000000000004"
	taken := map[string]int{}
	r.answer(func(w http.ResponseWriter, req *http.Request) {
		all := r.requests()
		rejected := int64(0)
		for _, doc := range documents(all[len(all)-1]) {
			if bytes.Contains(doc, []byte(bad)) {
				rejected++
				continue
			}
			taken[string(doc)]++
		}
		message := ""
		if rejected > 0 {
			message = "a log record is older than a week"
		}
		answers(200, mediaProtobuf, response(t, rejected, message))(w, req)
	})
	src, err := clienttest.NewSource(testInstance, records(t, 1, 9))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- forwarder.New("siem", src, open(t, config(url)), forwarder.Options{}).Run(ctx) }()
	<-src.Done()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(src.Quarantined) != 1 || !strings.Contains(src.Quarantined[4], "older than a week") {
		t.Errorf("in quarantine: %v", src.Quarantined)
	}
	if len(taken) != 8 {
		t.Errorf("%d entries were taken", len(taken))
	}
}

func TestAWarningIsLoggedOnceAndNotWithoutEnd(t *testing.T) {
	r, url := newReceiver(t)
	var logged bytes.Buffer
	s, err := Open(config(url), slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for n := range 100 {
		r.answer(answers(200, mediaProtobuf, response(t, 0, fmt.Sprintf("this is bad\n\x1b[31m %d", n/2))))
		write(t, s, records(t, 1, 1))
	}
	lines := strings.Split(strings.TrimSpace(logged.String()), "\n")
	if len(lines) != maxSaid || !strings.Contains(lines[1], "this is bad [31m 1") {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
}

func TestAReceiverDoesNotLearnOfCredentialsInTheLog(t *testing.T) {
	r, url := newReceiver(t)
	var logged bytes.Buffer
	c := config(url)
	c.HTTP.Headers = []httpclient.Header{{Name: "Authorization", Value: "Bearer {env.T}"}}
	c.HTTP.Resolve = func(string) (string, error) { return "planted-token", nil }
	s, err := Open(c, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, then := range []http.HandlerFunc{
		answers(200, mediaProtobuf, response(t, 0, "thanks for planted-token")),
		answers(200, mediaProtobuf, response(t, 1, "not with planted-token")),
		answers(400, mediaProtobuf, statusOf(3, "not with planted-token")),
		answers(500, mediaProtobuf, statusOf(3, "not with planted-\x00token")),
		answers(200, "text/planted-token", []byte("planted-token")),
	} {
		r.answer(then)
		if err := s.Write(t.Context(), records(t, 1, 2)); err != nil && strings.Contains(err.Error(), "planted-token") {
			t.Errorf("the error shows it: %v", err)
		}
	}
	if got := r.last.Header.Get("Authorization"); got != "Bearer planted-token" {
		t.Errorf("it was sent as %q", got)
	}
	if strings.Contains(logged.String(), "planted-token") || !strings.Contains(logged.String(), "thanks for") {
		t.Errorf("logged: %s", &logged)
	}
}

// The body of a success decides, so it is waited for, but no longer than for the rest.
func TestAnAnswerThatTricklesIsWaitedForUntilTheTimeout(t *testing.T) {
	endless := clienttest.ForEver("HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 30000\r\n\r\n", "\x0a", 10*time.Millisecond)
	c := config(clienttest.Hostile(t, true, endless))
	c.HTTP.Timeout = 200 * time.Millisecond
	err := fails(t, open(t, c))
	clienttest.Mentions(t, err, "did not answer within 200ms")
	if outcome(err) != "tried again" {
		t.Errorf("it is %s", outcome(err))
	}
	slow := func(w http.ResponseWriter, _ *http.Request) {
		b := response(t, 1, "slow but clear")
		w.Header().Set("Content-Type", mediaProtobuf)
		for i := range b {
			_, _ = w.Write(b[i : i+1])
			_ = http.NewResponseController(w).Flush()
		}
	}
	r, url := newReceiver(t)
	r.answer(slow)
	clienttest.Mentions(t, fails(t, open(t, config(url))), "slow but clear")
}

func TestAnAnswerThatIsCutOffIsNone(t *testing.T) {
	for _, then := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 10\r\n\r\n\x0a",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		if err := fails(t, open(t, config(clienttest.Hostile(t, true, clienttest.Says(then))))); outcome(err) != "tried again" {
			t.Errorf("%q is %s: %v", then, outcome(err), err)
		}
	}
}

func TestABatchIsDividedByWhatTheReceiverTakes(t *testing.T) {
	r, url := newReceiver(t)
	c := config(url)
	c.HTTP.MaxBody, c.Compress = httpclient.MinBody, httpclient.CompressNone
	s := open(t, c)
	var batch []forwarder.Record
	for n := 1; n <= 300; n++ {
		batch = append(batch, record(t, testInstance, n, full))
	}
	batch[200] = record(t, testInstance, 201, func(e *audit.Entry) { e.Action.Path = strings.Repeat("x", 2*httpclient.MinBody) })
	write(t, s, batch)
	var got [][]byte
	for _, m := range r.requests() {
		docs := documents(m)
		if size := proto.Size(m); size > httpclient.MinBody && len(docs) > 1 {
			t.Errorf("a body of %d bytes has %d entries", size, len(docs))
		}
		got = append(got, docs...)
	}
	if len(got) != len(batch) {
		t.Fatalf("%d entries arrived", len(got))
	}
	for i, doc := range got {
		if !bytes.Equal(doc, batch[i].JSON) {
			t.Fatalf("document %d is another one", i)
		}
	}
	if n := len(r.requests()); n < 10 || n > 30 {
		t.Errorf("%d requests", n)
	}
}

func TestAnEmptyBatchIsNoRequest(t *testing.T) {
	r, url := newReceiver(t)
	write(t, open(t, config(url)), nil)
	if n := len(r.requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestOneReaderOfAnswersSaysWhy(t *testing.T) {
	_, _, err := partialSuccess("text/html", []byte("<"))
	clienttest.Mentions(t, err, "text/html")
	_, _, err = partialSuccess(mediaProtobuf, bytes.Repeat([]byte("x"), maxResponse+1))
	clienttest.Mentions(t, err, "65536")
	if _, _, err = partialSuccess(mediaProtobuf, []byte("x")); errors.Unwrap(err) != nil {
		t.Errorf("an error of the library's: %v", err)
	}
}
