package httpstore

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
)

func TestTheDocumentsArriveByteByByteInEveryForm(t *testing.T) {
	for _, encoding := range []string{EncodingJSON, EncodingNDJSON} {
		for _, compress := range []string{httpclient.CompressGzip, httpclient.CompressZstd, httpclient.CompressNone} {
			t.Run(encoding+" "+compress, func(t *testing.T) {
				r, url := newReceiver(t)
				s := open(t, Config{URL: url, Encoding: encoding, Compress: compress})
				// The second is smaller: nothing of the first may stay behind it.
				for _, batch := range [][]forwarder.Record{records(t, 1, 50), records(t, 51, 53), {record(t, 54, 1<<20)}} {
					write(t, s, batch)
					got := r.last(t)
					plain := got.plain(t)
					var docs []string
					if encoding == EncodingJSON {
						docs = array(t, plain)
					} else {
						docs = strings.Split(strings.TrimSuffix(string(plain), "\n"), "\n")
					}
					if diff := cmp.Diff(documents(batch), docs); diff != "" {
						t.Errorf("documents (-want +got):\n%s", diff)
					}
					want := map[string]string{EncodingJSON: "application/json", EncodingNDJSON: "application/x-ndjson"}[encoding]
					if got := got.Header.Get("Content-Type"); got != want {
						t.Errorf("content type %q, want %q", got, want)
					}
					if got.ContentLength != int64(len(got.body)) {
						t.Errorf("content length %d, the body has %d bytes", got.ContentLength, len(got.body))
					}
				}
			})
		}
	}
}

func TestALineIsAnEntryThoughItsDocumentHasLineBreaks(t *testing.T) {
	r, url := newReceiver(t)
	one := record(t, 1, 10)
	one.JSON = []byte(strings.Replace(string(one.JSON), ",", ",\r\n\t", 2))
	two := record(t, 2, 10)
	write(t, open(t, Config{URL: url, Encoding: EncodingNDJSON}), []forwarder.Record{one, two})
	want := string(record(t, 1, 10).JSON) + "\n" + string(two.JSON) + "\n"
	if got := string(r.last(t).plain(t)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAnEmptyBatchIsNoRequest(t *testing.T) {
	r, url := newReceiver(t)
	write(t, open(t, Config{URL: url}), nil)
	if n := len(r.requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestARequestSaysWhichEntriesItHas(t *testing.T) {
	r, url := newReceiver(t)
	write(t, open(t, Config{URL: url}), records(t, 7, 12))
	h := r.last(t).Header
	got := map[string]string{}
	for _, name := range []string{headerInstance, headerFirst, headerLast, headerEntries} {
		got[name] = h.Get(name)
	}
	want := map[string]string{headerInstance: testInstance, headerFirst: "7", headerLast: "12", headerEntries: "6"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

func TestABatchOfTwoInstancesIsTwoRequestsInOrder(t *testing.T) {
	r, url := newReceiver(t)
	batch := records(t, 1, 5)
	for i := 3; i < 5; i++ {
		batch[i].Entry.Origin = &audit.Origin{Instance: "another", Sequence: batch[i].Sequence}
	}
	write(t, open(t, Config{URL: url}), batch)
	var got [][]string
	for _, request := range r.requests() {
		got = append(got, []string{request.Header.Get(headerInstance), request.Header.Get(headerFirst), request.Header.Get(headerLast)})
	}
	if diff := cmp.Diff([][]string{{testInstance, "1", "3"}, {"another", "4", "5"}}, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestNoBodyIsLargerThanMaxBodyUnlessAnEntryIs(t *testing.T) {
	r, url := newReceiver(t)
	s := open(t, Config{URL: url, MaxBody: httpclient.MinBody, Compress: httpclient.CompressNone})
	batch := records(t, 1, 400)
	batch[200] = record(t, 201, 2*httpclient.MinBody)
	write(t, s, batch)
	var got []string
	for _, request := range r.requests() {
		docs := array(t, request.body)
		if len(request.body) > httpclient.MinBody && len(docs) > 1 {
			t.Errorf("a body of %d bytes has %d entries", len(request.body), len(docs))
		}
		got = append(got, docs...)
	}
	if diff := cmp.Diff(documents(batch), got); diff != "" {
		t.Errorf("documents (-want +got):\n%s", diff)
	}
	if n := len(r.requests()); n < 3 || n > 10 {
		t.Errorf("%d requests", n)
	}
	if got := s.c.batching().BatchBytes + httpclient.MaxBatchEntries + 2; got > httpclient.MinBody {
		t.Errorf("a full batch is a body of %d bytes", got)
	}
}

func TestTheMemoryOfAnEntryThatIsTooLargeIsNotKept(t *testing.T) {
	_, url := newReceiver(t)
	s := open(t, Config{URL: url, Compress: httpclient.CompressNone})
	write(t, s, []forwarder.Record{record(t, 1, httpclient.KeptBody+1)})
	write(t, s, records(t, 2, 3))
	if n := max(cap(s.body.Plain), cap(s.body.Sent)); n > httpclient.KeptBody {
		t.Errorf("%d bytes stay", n)
	}
}

func TestTheIDOfARequestIsThatOfItsEntries(t *testing.T) {
	r, url := newReceiver(t)
	s := open(t, Config{URL: url})
	id := func(batch []forwarder.Record) string {
		t.Helper()
		if err := s.Write(context.Background(), batch); err != nil {
			t.Fatal(err)
		}
		return r.last(t).Header.Get(headerID)
	}
	batch := records(t, 1, 9)
	first := id(batch)
	if again := id(batch); again != first {
		t.Errorf("the same batch was %s and then %s", first, again)
	}
	if strings.Contains(first, ".") || !strings.HasPrefix(first, "msg_") {
		t.Errorf("id %q", first)
	}
	seen := map[string]string{first: "the batch"}
	other := func(name string, batch []forwarder.Record) {
		t.Helper()
		got := id(batch)
		if was, ok := seen[got]; ok {
			t.Errorf("%s has the id of %s", name, was)
		}
		seen[got] = name
	}
	other("a shorter one", batch[:8])
	other("one that begins later", batch[1:])
	revised := slices.Clone(batch)
	e := *revised[4].Entry
	e.Revision = 2
	revised[4].Entry = &e
	other("one with a higher revision", revised)
	moved := records(t, 1, 9)
	for i := range moved {
		moved[i].Entry.Origin.Instance = "another"
	}
	other("one of another instance", moved)
}
