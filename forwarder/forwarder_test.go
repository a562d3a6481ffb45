package forwarder

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// harness runs a forwarder in the bubble of a synctest.
type harness struct {
	*Forwarder
	source *fakeSource
	sink   *fakeStore
	log    *bytes.Buffer // read it only while the bubble is blocked
	stop   context.CancelFunc
	done   chan error
}

func start(t *testing.T, source *fakeSource, sink *fakeStore, o Options) *harness {
	t.Helper()
	h := startStore(t, source, sink, o)
	h.sink = sink
	return h
}

func startStore(t *testing.T, source *fakeSource, sink Store, o Options) *harness {
	t.Helper()
	h := &harness{source: source, log: new(bytes.Buffer), done: make(chan error, 1)}
	o.Logger = slog.New(slog.NewTextHandler(h.log, nil))
	h.Forwarder = New("main", source, sink, o)
	var ctx context.Context
	ctx, h.stop = context.WithCancel(t.Context())
	go func() { h.done <- h.Run(ctx) }()
	synctest.Wait()
	return h
}

// end stops the forwarder and returns what Run returned.
func (h *harness) end() error {
	h.stop()
	return <-h.done
}

func (h *harness) lines() []string {
	return strings.Split(strings.TrimSuffix(h.log.String(), "\n"), "\n")
}

func TestEntriesArriveInSequenceWithTheirOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, sink := newFakeSource(), &fakeStore{}
		source.add(t, 3)
		h := start(t, source, sink, Options{})
		source.add(t, 2)
		synctest.Wait()
		if err := h.end(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sequence(1, 5), sink.got()); diff != "" {
			t.Errorf("delivered (-want +got):\n%s", diff)
		}
		for _, r := range sink.records {
			e, err := audit.Decode(r.JSON)
			if err != nil {
				t.Fatalf("record %d: %v", r.Sequence, err)
			}
			want := &audit.Origin{Instance: testInstance, Sequence: r.Sequence}
			if diff := cmp.Diff(want, e.Origin); diff != "" {
				t.Errorf("origin in the JSON of %d (-want +got):\n%s", r.Sequence, diff)
			}
			if diff := cmp.Diff(e, r.Entry); diff != "" {
				t.Errorf("entry %d and its JSON differ (-json +entry):\n%s", r.Sequence, diff)
			}
		}
		if source.positions["main"] != 5 || source.delivered != 5 {
			t.Errorf("position %d, delivered %d; want 5 and 5", source.positions["main"], source.delivered)
		}
	})
}

func TestDeliveryBeginsAfterThePosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, sink := newFakeSource(), &fakeStore{}
		source.add(t, 5)
		source.positions["main"] = 3
		h := start(t, source, sink, Options{})
		if err := h.end(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sequence(4, 5), sink.got()); diff != "" {
			t.Errorf("delivered (-want +got):\n%s", diff)
		}
	})
}

func TestALoneEntryIsSentAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, sink := newFakeSource(), &fakeStore{}
		h := start(t, source, sink, Options{})
		source.add(t, 1)
		synctest.Wait() // no time passes
		if sink.attempts() != 1 {
			t.Errorf("%d writes without waiting, want 1", sink.attempts())
		}
		h.end()
	})
}

func TestEntriesThatArriveDuringAWriteShareTheNextBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		sink := &fakeStore{hook: func(context.Context, int) error { time.Sleep(time.Second); return nil }}
		h := start(t, source, sink, Options{})
		source.add(t, 1)
		synctest.Wait()
		source.add(t, 40)
		time.Sleep(3 * time.Second)
		if diff := cmp.Diff([]int{1, 40}, sink.sizes()); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
		h.end()
	})
}

func TestBatchesGrowOnABacklogAndShrinkAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		slow := func(context.Context, int) error { time.Sleep(time.Millisecond); return nil }
		sink := &fakeStore{hook: slow}
		source.add(t, 100)
		h := start(t, source, sink, Options{Batching: Batching{BatchEntries: 10, MaxBatchEntries: 35}})
		time.Sleep(time.Second)
		source.add(t, 1)
		synctest.Wait()
		time.Sleep(time.Second)
		source.add(t, 12)
		time.Sleep(time.Second)
		sizes := sink.sizes()
		if diff := cmp.Diff([]int{10, 20, 35, 35, 1}, sizes[:5]); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
		for _, n := range sizes[5:] {
			if n > 10 {
				t.Errorf("a batch of %d without a backlog, want at most 10", n)
			}
		}
		h.end()
	})
}

func TestBatchIsBoundedByBytesButNeverEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, size := range []int{1, 600} {
			source, sink := newFakeSource(), &fakeStore{}
			source.add(t, 9)
			h := start(t, source, sink, Options{Batching: Batching{BatchBytes: size}})
			h.end()
			if diff := cmp.Diff(sequence(1, 9), sink.got()); diff != "" {
				t.Errorf("delivered (-want +got):\n%s", diff)
			}
			for _, b := range sink.batches {
				sum := 0
				for _, n := range b {
					sum += len(sink.records[n-1].JSON)
				}
				if sum > size && len(b) > 1 {
					t.Errorf("a batch of %d bytes, want at most %d", sum, size)
				}
			}
		}
	})
}

func TestBatchWaitHoldsAPartialBatchAndNotAFullOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, sink := newFakeSource(), &fakeStore{}
		h := start(t, source, sink, Options{Batching: Batching{BatchEntries: 10, BatchWait: time.Second}})
		source.add(t, 1)
		synctest.Wait()
		source.add(t, 2)
		time.Sleep(999 * time.Millisecond)
		synctest.Wait()
		if n := sink.attempts(); n != 0 {
			t.Errorf("%d writes before BatchWait, want none", n)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if diff := cmp.Diff([]int{3}, sink.sizes()); diff != "" {
			t.Errorf("batches after BatchWait (-want +got):\n%s", diff)
		}
		source.add(t, 10)
		synctest.Wait()
		if diff := cmp.Diff([]int{3, 10}, sink.sizes()); diff != "" {
			t.Errorf("batches after a full one (-want +got):\n%s", diff)
		}
		source.add(t, 1)
		synctest.Wait()
		if err := h.end(); err != nil {
			t.Errorf("stopping while a batch fills: %v", err)
		}
	})
}

func TestCapturedBytesPassThroughUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, sink := newFakeSource(), &fakeStore{}
		source.append(
			[]byte(`{"id":"a","action":{"method":"POST","metadata":{"n":12345678901234567890}},"later":{"x":[1]}}`+"\n"),
			[]byte(`{"id":"b","origin":{"instance":"else","sequence":9}}`),
		)
		h := start(t, source, sink, Options{})
		h.end()
		want := `{"id":"a","action":{"method":"POST","metadata":{"n":12345678901234567890}},"later":{"x":[1]},` +
			`"origin":{"instance":"` + testInstance + `","sequence":1}}`
		if diff := cmp.Diff(want, string(sink.records[0].JSON)); diff != "" {
			t.Errorf("JSON (-want +got):\n%s", diff)
		}
		if n := bytes.Count(sink.records[1].JSON, []byte(`"origin"`)); n != 1 {
			t.Errorf("%d origins in %s, want 1", n, sink.records[1].JSON)
		}
	})
}

func TestOnBatchIsToldOfEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		bad := errors.New("no")
		sink := &fakeStore{hook: func(_ context.Context, attempt int) error {
			time.Sleep(time.Millisecond)
			if attempt == 1 {
				return bad
			}
			return nil
		}}
		var told []Batch
		source.add(t, 2)
		h := start(t, source, sink, Options{OnBatch: func(b Batch) { told = append(told, b) }})
		time.Sleep(time.Second)
		h.end()
		size := len(sink.records[0].JSON) + len(sink.records[1].JSON)
		want := []Batch{
			{First: 1, Last: 2, Entries: 2, Bytes: size, Duration: time.Millisecond, Err: bad},
			{First: 1, Last: 2, Entries: 2, Bytes: size, Duration: time.Millisecond},
		}
		if diff := cmp.Diff(want, told, cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) })); diff != "" {
			t.Errorf("batches told (-want +got):\n%s", diff)
		}
	})
}
