package natsstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// sequencesOf are those of the headers.
func sequencesOf(all []stored) (sequences []string) {
	for _, m := range all {
		sequences = append(sequences, m.header.Get(headerSequence))
	}
	return sequences
}

func TestAnEntryThatNobodyTakesIsRefusedAndItsNeighboursAreNot(t *testing.T) {
	for what, test := range map[string]struct {
		options func(*natsd.Options)
		size    int32 // of the stream's max_msg_size
		cure    string
	}{
		"the server's max_payload":  {func(o *natsd.Options) { o.MaxPayload = 10_000 }, -1, "max_payload of 10000 bytes"},
		"the stream's max_msg_size": {nil, 10_000, "max_msg_size"},
	} {
		t.Run(what, func(t *testing.T) {
			s := serve(t, test.options)
			_, js := s.client()
			stream := (&Config{}).withDefaultsForTest().wanted(defaultClass)
			stream.MaxMsgSize = test.size
			if _, err := js.CreateStream(t.Context(), stream); err != nil {
				t.Fatal(err)
			}
			st := open(t, s.config(), nil)
			batch := records(t, 1, 9)
			batch[4] = record(t, 5, 1, 20_000)
			for range 2 {
				err := st.Write(t.Context(), batch)
				if !isRefused(err) {
					t.Fatalf("not refused: %v", err)
				}
				mentions(t, err, "publishing entries 1 to 9", test.cure)
			}
			if err := st.Write(t.Context(), batch[4:5]); !isRefused(err) {
				t.Errorf("alone: %v", err)
			}
			write(t, st, batch[:4])
			write(t, st, batch[5:])
			if got := s.got(); len(got) != 8 {
				t.Errorf("%d messages, want 8: %v", len(got), sequencesOf(got))
			}
		})
	}
}

func TestAFullStreamKeepsWhatItHasAndIsTriedAgain(t *testing.T) {
	s := serve(t, nil)
	c := s.config()
	c.MaxBytes = 64 << 10
	st := open(t, c, nil)
	var err error
	n := 1
	for ; err == nil && n < 10_000; n += 20 {
		err = st.Write(t.Context(), records(t, n, n+19))
	}
	mentions(t, err, "10077", "raise its max_bytes")
	if isRefused(err) {
		t.Errorf("a full stream refuses no entry: %v", err)
	}
	got := s.got()
	if len(got) == 0 || got[0].header.Get(headerSequence) != "1" {
		t.Errorf("the oldest entry is gone: %v", sequencesOf(got))
	}
	_, js := s.client()
	of, lookErr := js.Stream(t.Context(), "AUDIT_default")
	if lookErr != nil {
		t.Fatal(lookErr)
	}
	bigger := of.CachedInfo().Config
	bigger.MaxBytes = 1 << 20
	if _, err := js.UpdateStream(t.Context(), bigger); err != nil {
		t.Fatal(err)
	}
	write(t, st, records(t, n-20, n-1))
	if got := s.got(); len(got) != n-1 {
		t.Errorf("%d messages, want %d", len(got), n-1)
	}
}

// TestEachCodeOfJetStreamIsRefusedOrTriedAgain lets a proxy give each answer that a
// server of today has.
func TestEachCodeOfJetStreamIsRefusedOrTriedAgain(t *testing.T) {
	s := serve(t, nil)
	p := startProxy(t, s.addr())
	c := s.config()
	c.Servers = []string{p.url()}
	st := open(t, c, nil)
	write(t, st, records(t, 1, 1))
	for code := 10000; code < 10240; code++ {
		p.set(func() {
			p.answer = func(string, []byte) string {
				return fmt.Sprintf(`{"error":{"code":503,"err_code":%d,"description":"as it says"},"stream":"AUDIT_default","seq":0}`, code)
			}
		})
		err := st.Write(t.Context(), records(t, 2, 2))
		if err == nil || isRefused(err) != (code == 10054) {
			t.Errorf("code %d: %v", code, err)
		}
		mentions(t, err, "as it says", fmt.Sprint(code), answers[jetstream.ErrorCode(code)].cure)
	}
	p.set(func() { p.answer = nil })
	write(t, st, records(t, 2, 2))
}

func TestAnAcknowledgementThatIsNoneIsAnError(t *testing.T) {
	s := serve(t, nil)
	p := startProxy(t, s.addr())
	c := s.config()
	c.Servers = []string{p.url()}
	st := open(t, c, nil)
	for said, text := range map[string]string{
		`{"stream":"OTHER","seq":1}`:                         `stream "OTHER" acknowledged what stream "AUDIT_default" should have`,
		`{"stream":"AUDIT_default","domain":"leaf","seq":1}`: `of domain "leaf" acknowledged`,
		`{"stream":"OTHER","seq":1,"duplicate":true}`:        `stream "OTHER"`,
		`{"stream":"","seq":1}`:                              "invalid",
		`{}`:                                                 "invalid",
		`null`:                                               "invalid",
		`[]`:                                                 "invalid",
		`+OK`:                                                "invalid",
		`{"error":{}}`:                                       "publishing",
		`{"error":null,"stream":7}`:                          "invalid",
		`{"stream":"AUDIT_default","error":{"err_code":10054000}}`:              "invalid",
		`{"stream":"` + strings.Repeat("A", 100_000) + `","seq":1}`:             `stream "AAAA`,
		`{"stream":"AUDIT_default\u0000","seq":1}`:                              "acknowledged what",
		`{"error":{"description":"` + strings.Repeat("x\\n", 9999) + `"` + `}}`: "publishing",
	} {
		p.set(func() { p.answer = func(string, []byte) string { return said } })
		err := st.Write(t.Context(), records(t, 1, 3))
		if isRefused(err) {
			t.Errorf("%.60s: refused: %v", said, err)
		}
		mentions(t, err, text)
		if err != nil && (len(err.Error()) > 2000 || strings.ContainsAny(err.Error(), "\n\x00")) {
			t.Errorf("%.60s: the error is not fit for a log: %q", said, err)
		}
	}
	p.set(func() {
		p.answer = func(string, []byte) string { return `{"stream":"AUDIT_default","seq":9,"duplicate":true}` }
	})
	write(t, st, records(t, 1, 3)) // a repeat is success
}

// TestNothingIsPublishedAfterAFailure counts what arrives at the stream behind a message
// that fails.
func TestNothingIsPublishedAfterAFailure(t *testing.T) {
	s := serve(t, nil)
	p := startProxy(t, s.addr())
	c := s.config()
	c.Servers = []string{p.url()}
	st := open(t, c, nil)
	write(t, st, records(t, 1, 1))
	r := record(t, 30, 1, 33)
	p.set(func() { p.answer = refusing("projects/" + strings.Repeat("x", 33) + `"`) })
	batch := append(append(records(t, 2, 29), r), records(t, 31, 1500)...)
	if err := st.Write(t.Context(), batch); !isRefused(err) {
		t.Fatalf("not refused: %v", err)
	}
	got := s.got()
	if n := len(got); n < 29 || n > 29+maxFlying {
		t.Errorf("%d messages are there, want those before the failure and at most %d behind it", n, maxFlying)
	}
	p.set(func() { p.answer = nil })
	write(t, st, batch)
	if got := s.got(); len(got) != 1500 {
		t.Errorf("%d messages, want 1500", len(got))
	}
}

// TestBehindAFailureTheFirstOfABatchIsNotOvertaken lets a stream that was away lose one
// message more, as one does that has a new leader.
func TestBehindAFailureTheFirstOfABatchIsNotOvertaken(t *testing.T) {
	s := serve(t, nil)
	p := startProxy(t, s.addr())
	c := s.config()
	c.Servers, c.Timeout = []string{p.url()}, time.Second
	st := open(t, c, nil)
	write(t, st, records(t, 1, 9))
	p.set(func() { p.mute = true })
	mentions(t, st.Write(t.Context(), records(t, 10, 19)), "no answer within 1s")
	for range 3 {
		p.set(func() { p.mute, p.lose = false, 1 })
		mentions(t, st.Write(t.Context(), records(t, 10, 19)), "no answer within 1s")
	}
	write(t, st, records(t, 10, 19))
	var want []string
	for n := range 19 {
		want = append(want, strconv.Itoa(n+1))
	}
	if got := sequencesOf(s.got()); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestWhatIsUnderWayIsBounded(t *testing.T) {
	f := newFlight()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for n := range maxFlying {
		if err := f.launch(t.Context(), (&Config{}).message(record(t, n, 1, 0), 0), flying{id: fmt.Sprint(n), bytes: 10}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.launch(ended, (&Config{}).message(record(t, 9999, 1, 0), 0), flying{id: "9999"}); !errors.Is(err, context.Canceled) {
		t.Errorf("one more than may be is launched: %v", err)
	}
	f = newFlight()
	big := (&Config{}).message(record(t, 1, 1, 0), 0)
	if err := f.launch(ended, big, flying{id: "1", bytes: 10 * maxFlyingBytes}); err != nil {
		t.Errorf("one that is larger than the bound does not fly alone: %v", err)
	}
	if err := f.launch(ended, (&Config{}).message(record(t, 2, 1, 0), 0), flying{id: "2", bytes: 1}); err == nil {
		t.Error("another one flies beside it")
	}
	f.acknowledged(big, &jetstream.PubAck{})
	if err := f.launch(ended, (&Config{}).message(record(t, 1, 1, 0), 0), flying{id: "1", bytes: 1}); err != nil {
		t.Errorf("there is room and no repeat flies: %v", err)
	}
	if err := f.launch(ended, (&Config{}).message(record(t, 1, 1, 0), 0), flying{id: "1", bytes: 1}); err == nil {
		t.Error("a repeat flies beside the first")
	}
	f.acknowledged(big, &jetstream.PubAck{Stream: "of an earlier flight"})
	if err := f.landed(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("what belongs to no message counts: %v", err)
	}
}

// TestAFailureIsNeverTakenForAnAcknowledgement lets messages fail at the moment in which
// somebody looks whether all have landed.
func TestAFailureIsNeverTakenForAnAcknowledgement(t *testing.T) {
	for n := range 2_000 {
		f, m := newFlight(), (&Config{}).message(forwarder.Record{Entry: new(audit.Entry)}, 0)
		if err := f.launch(t.Context(), m, flying{id: "1", stream: "AUDIT_default"}); err != nil {
			t.Fatal(err)
		}
		go func() {
			if n%2 == 0 {
				f.failed(m, errors.New("it failed"))
			} else {
				f.acknowledged(m, &jetstream.PubAck{Stream: "OTHER"})
			}
		}()
		for left := 1; left > 0; { // as wait does that is woken by others all the time
			f.mu.Lock()
			left = len(f.out)
			err := f.err
			f.mu.Unlock()
			if left == 0 && err == nil {
				t.Fatal("a message that failed counts as acknowledged")
			}
		}
	}
}

func TestARepeatIsKeptOutWithinTheWindowAndShowsBehindIt(t *testing.T) {
	batch := records(t, 1, 10)
	within := serve(t, nil)
	st := open(t, within.config(), nil)
	write(t, st, batch)
	write(t, st, batch)
	if n := len(within.got()); n != 10 {
		t.Errorf("%d messages within the window, want 10", n)
	}

	s := serve(t, nil)
	c := s.config()
	c.DuplicateWindow = time.Second
	st = open(t, c, nil)
	write(t, st, batch)
	for deadline := time.Now().Add(20 * time.Second); len(s.got()) == 10; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the window does not end")
		}
		write(t, st, batch)
	}
	got := s.got()
	again := got[10].header
	// The window ends for each message by itself.
	first := got[slices.IndexFunc(got, func(m stored) bool { return m.header.Get(headerSequence) == again.Get(headerSequence) })].header
	if first.Get(headerID) != again.Get(headerID) || first.Get(headerRevision) != again.Get(headerRevision) {
		t.Errorf("a repeat cannot be told: %v and %v", first, again)
	}
}

func TestTheDocumentIsThePayload(t *testing.T) {
	s := serve(t, nil)
	st := open(t, s.config(), nil)
	r := record(t, 1, 1, 0)
	r.JSON = []byte(` {"b":1, "a":1e400,"a":"\ud800"} `)
	write(t, st, []forwarder.Record{r})
	if got := s.got(); len(got) != 1 || !bytes.Equal(got[0].data, r.JSON) || json.Valid(got[0].data) == false {
		t.Errorf("%+v", got)
	}
}

func TestHighestIsWhatTheWriterHadAlsoWhenTheLastMessageIsOld(t *testing.T) {
	s := serve(t, nil)
	c := s.config()
	c.DuplicateWindow = time.Second
	st := open(t, c, nil)
	class := func(n int, class string) forwarder.Record {
		return recordOf(t, n, 1, 10, func(e *audit.Entry) { e.Retention = &audit.Retention{Class: class} })
	}
	write(t, st, []forwarder.Record{record(t, 1, 1, 10), class(2, "a.b"), class(50, "c"), record(t, 3, 1, 10)})
	highest := func(st *Store, instance string, want uint64) {
		t.Helper()
		if got, err := st.Highest(t.Context(), instance); err != nil || got != want {
			t.Errorf("highest of %s is %d, %v; want %d", instance, got, err, want)
		}
	}
	highest(st, testInstance, 50)
	highest(st, otherInstance, 0)
	for deadline := time.Now().Add(20 * time.Second); len(s.got()) < 5; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the window does not end")
		}
		write(t, st, []forwarder.Record{class(50, "c"), record(t, 1, 1, 10)})
	}
	again := open(t, s.config(), nil)
	highest(again, testInstance, 50)
	// Without having been asked, it knows before it writes.
	third := open(t, s.config(), nil)
	write(t, third, []forwarder.Record{record(t, 4, 7, 10)})
	all := s.got()
	if last := slices.IndexFunc(all, func(m stored) bool { return m.header.Get(headerSequence) == "4" }); last < 0 || all[last].header.Get(headerHighest) != "50" {
		t.Errorf("the last message does not say what came before: %v", all)
	}
}

func TestAContextThatHasEndedPublishesNothing(t *testing.T) {
	s := serve(t, nil)
	st := open(t, s.config(), nil)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	err := st.Write(ended, records(t, 1, 3))
	mentions(t, err, "publishing entries 1 to 3", "broken off")
	if !errors.Is(err, context.Canceled) || len(s.got()) != 0 {
		t.Errorf("%v, %d messages", err, len(s.got()))
	}
	if err := st.Write(t.Context(), nil); err != nil {
		t.Errorf("an empty batch: %v", err)
	}
}

func TestAStoreThatIsClosedSaysSo(t *testing.T) {
	s := serve(t, nil)
	st := open(t, s.config(), nil)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		mentions(t, st.Write(t.Context(), records(t, 1, 1)), "it is closed")
		_, err := st.Highest(t.Context(), testInstance)
		mentions(t, err, "it is closed")
	}
	if st.link.nc.IsConnected() {
		t.Error("it has made a connection that nobody closes")
	}
}

func TestASecondOutageEndsAsTheFirst(t *testing.T) {
	s := serve(t, nil)
	st := open(t, s.config(), nil)
	n := 1
	for range 3 {
		write(t, st, records(t, n, n+9))
		s.stop()
		err := st.Write(t.Context(), records(t, n+10, n+19))
		if err == nil || isRefused(err) {
			t.Fatalf("while the server is down: %v", err)
		}
		s.start()
		deliver(t, st, records(t, n+10, n+19))
		n += 20
	}
	if got := s.got(); len(got) != 60 {
		t.Errorf("%d messages, want 60", len(got))
	}
}

func TestAnAcknowledgementThatDoesNotComeIsWaitedForNoLongerThanSaid(t *testing.T) {
	s := serve(t, nil)
	p := startProxy(t, s.addr())
	c := s.config()
	c.Servers, c.Timeout = []string{p.url()}, time.Second
	st := open(t, c, nil)
	write(t, st, records(t, 1, 1))
	p.set(func() { p.mute = true })
	err := st.Write(t.Context(), records(t, 2, 2000))
	mentions(t, err, "no answer within 1s")
	if isRefused(err) {
		t.Errorf("refused: %v", err)
	}
	p.set(func() { p.mute = false })
	deliver(t, st, records(t, 2, 2000))
}
