//go:build servers

package otlp

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient/clienttest"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/storetest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/otelcol"
)

// collector starts the real Collector in front of a receiver of the test.
func collector(t testing.TB, queue otelcol.Queue, how clienttest.Receive) (*otelcol.Collector, *clienttest.Endpoint) {
	t.Helper()
	behind := clienttest.NewEndpoint(t, how, nil)
	c, err := otelcol.Start(t.Context(), t.TempDir(), "http://"+behind.Address, queue)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.LastWords())
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, behind
}

func kill(t testing.TB, c *otelcol.Collector) (mend func()) {
	if err := c.Kill(); err != nil {
		t.Error(err)
	}
	return func() {
		if err := c.Up(); err != nil {
			t.Error(err)
		}
	}
}

// With its exporter's queue off, the Collector's answer is that of the receiver behind it.
func TestTheStoreKeepsItsContractWithACollectorThatHasNoQueue(t *testing.T) {
	storetest.Run(t, func(t testing.TB) *storetest.Target {
		const token = "planted-contract-token"
		t.Setenv("OTLP_CONTRACT_TOKEN", token)
		c, behind := collector(t, otelcol.QueueNone, receive(t))
		m := &Module{Options: httpclient.Options{
			URL: c.Endpoint, Proxy: httpclient.ProxyNone,
			Headers: []httpclient.Header{{Name: "X-Token", Value: "{env.OTLP_CONTRACT_TOKEN}"}},
		}}
		provision(t, m)
		return &storetest.Target{
			Opener: m, Credentials: []string{token}, Documents: behind.Documents,
			Refuse: behind.Refuse, Slow: behind.Slow, Cut: behind.Cut,
			Break: func() func() { return kill(t, c) },
		}
	}, storetest.Options{NotApplicable: declared})
}

// With its queue in a file that is synced, the Collector acknowledges by itself, and what
// it has acknowledged arrives later.
func TestTheStoreKeepsItsContractWithACollectorThatHasItsQueueInAFile(t *testing.T) {
	const killed = "a Collector that is killed sends once more what it was sending, a repeat that no Write explains; see TestACollectorThatIsKilledForgetsAQueueInMemoryAndKeepsOneInAFile"
	apart := map[string]string{
		"a store that is down refuses nothing, and goes on when it is back":      killed,
		"a store that is opened while it is down goes on when it is up":          killed,
		"a refused entry is told from its neighbours":                            "with a queue the Collector answers before anybody could refuse, and drops what is refused then",
		"a destination that refuses everything says so of each entry":            "the same",
		"a slow destination is waited for":                                       "the Collector answers for it",
		"a context that ends lets Write return":                                  "there is nothing that Write would wait for",
		"closing during a write returns and loses nothing that was acknowledged": "the same",
		"Describe and Read may be called during a write":                         "the same",
		"a connection that is reset in the middle of a batch costs nothing":      "it would have to be reset in front of the Collector, which the receiver behind it cannot",
	}
	maps.Copy(apart, declared)
	storetest.Run(t, func(t testing.TB) *storetest.Target {
		const token = "planted-contract-token"
		t.Setenv("OTLP_CONTRACT_TOKEN", token)
		c, behind := collector(t, otelcol.QueueFile, receive(t))
		first := prime(t, c, behind)
		m := &Module{Options: httpclient.Options{
			URL: c.Endpoint, Proxy: httpclient.ProxyNone,
			Headers: []httpclient.Header{{Name: "X-Token", Value: "{env.OTLP_CONTRACT_TOKEN}"}},
		}}
		provision(t, m)
		o := &counting{Opener: m, acknowledged: map[string]int{}}
		return &storetest.Target{
			Opener: o, Credentials: []string{token},
			Documents: func() ([][]byte, error) {
				docs, err := o.await(behind)
				return docs[min(first, len(docs)):], err
			},
		}
	}, storetest.Options{NotApplicable: apart})
}

// prime sends an entry through a Collector and returns how many have arrived. A queue in a
// file that nothing has been read from yet is taken for a new one when the Collector starts
// again, and what it has acknowledged is gone: version 0.125.0 keeps where it reads only
// from the first time on that it does.
func prime(t testing.TB, c *otelcol.Collector, behind *clienttest.Endpoint) int {
	t.Helper()
	s, err := Open(config(c.Endpoint), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := record(t, testInstance, 999_999, nil)
	write(t, s, []forwarder.Record{r})
	docs, err := (&counting{acknowledged: map[string]int{string(r.JSON): 1}}).await(behind)
	if err != nil {
		t.Fatal(err)
	}
	return len(docs)
}

// counting knows what its stores have acknowledged.
type counting struct {
	forwarder.Opener
	mu           sync.Mutex
	acknowledged map[string]int
}

func (c *counting) Open(ctx context.Context, log *slog.Logger) (forwarder.Store, error) {
	s, err := c.Opener.Open(ctx, log)
	if err != nil {
		return nil, err
	}
	return &countingStore{s, c}, nil
}

type countingStore struct {
	forwarder.Store
	of *counting
}

func (s *countingStore) Write(ctx context.Context, batch []forwarder.Record) error {
	err := s.Store.Write(ctx, batch)
	if err == nil {
		s.of.mu.Lock()
		defer s.of.mu.Unlock()
		for _, r := range batch {
			s.of.acknowledged[string(r.JSON)]++
		}
	}
	return err
}

// await waits until what was acknowledged has got through the Collector.
func (c *counting) await(behind *clienttest.Endpoint) ([][]byte, error) {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		docs, err := behind.Documents()
		if err != nil || c.missing(docs) == "" {
			return docs, err
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("what was acknowledged does not arrive behind the Collector: %s", c.missing(docs))
		}
	}
}

// missing is one that was acknowledged more often than it arrived; empty is none.
func (c *counting) missing(docs [][]byte) string {
	arrived := map[string]int{}
	for _, doc := range docs {
		arrived[string(doc)]++
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for doc, n := range c.acknowledged {
		if arrived[doc] < n {
			return fmt.Sprintf("%d of %d arrived: %s", arrived[doc], n, doc)
		}
	}
	return ""
}

// What docs/otlp.md says of queues: one in memory forgets what it has acknowledged.
func TestACollectorThatIsKilledForgetsAQueueInMemoryAndKeepsOneInAFile(t *testing.T) {
	for queue, keeps := range map[otelcol.Queue]bool{otelcol.QueueMemory: false, otelcol.QueueFile: true} {
		c, behind := collector(t, queue, receive(t))
		before := prime(t, c, behind)
		s := open(t, config(c.Endpoint))
		mend := behind.Break()
		write(t, s, records(t, 1, 3)) // acknowledged, and in the queue
		kill(t, c)()
		mend()
		write(t, s, records(t, 4, 6))
		o := &counting{acknowledged: map[string]int{}}
		wait := records(t, 4, 6)
		if keeps {
			wait = records(t, 1, 6)
		}
		for _, r := range wait {
			o.acknowledged[string(r.JSON)] = 1
		}
		docs, err := o.await(behind)
		if err != nil {
			t.Errorf("queue %d: %v", queue, err)
		}
		if n := len(docs) - before; !keeps && n != 3 {
			t.Errorf("queue %d: %d documents of 3: the documentation says that the Collector forgets", queue, len(docs))
		}
	}
}

// A batch that is on its way when the Collector is killed was not acknowledged, and goes
// through when it is back, over a connection that the store makes by itself.
func TestACollectorThatIsKilledInTheMiddleOfABatchCostsNothing(t *testing.T) {
	arrived := make(chan struct{}, 1)
	how := receive(t)
	take := how.Take
	how.Take = func(w http.ResponseWriter, req *http.Request, body []byte) ([][]byte, bool) {
		select {
		case arrived <- struct{}{}:
			<-req.Context().Done() // until the Collector is gone
			return nil, false
		default:
		}
		return take(w, req, body)
	}
	c, behind := collector(t, otelcol.QueueNone, how)
	s := open(t, config(c.Endpoint))
	batch := records(t, 1, 50)
	for n := range 2 {
		failed := make(chan error, 1)
		go func() { failed <- s.Write(context.Background(), batch) }()
		for len(arrived) == 0 {
			time.Sleep(time.Millisecond)
		}
		mend := kill(t, c)
		if got := outcome(<-failed); got != "tried again" {
			t.Errorf("a batch whose Collector was killed is %s", got)
		}
		mend()
		write(t, s, batch)
		<-arrived
		if docs, _ := behind.Documents(); len(docs) != (n+1)*len(batch) {
			t.Errorf("%d documents after outage %d of two", len(docs), n+1)
		}
	}
}

// What docs/otlp.md says of a Collector without a queue: what it makes of an answer from
// behind it. It is the Collector's doing, so that a newer one may do better.
func TestWhatACollectorMakesOfAnAnswerFromBehindIt(t *testing.T) {
	how := receive(t)
	var then http.HandlerFunc
	how.Accept = func(w http.ResponseWriter, r *http.Request) { then(w, r) }
	c, _ := collector(t, otelcol.QueueNone, how)
	s := open(t, config(c.Endpoint))
	failure := func(code int) http.HandlerFunc {
		return answers(code, mediaProtobuf, statusOf(3, "said by what is behind"))
	}
	for _, a := range []struct {
		behind   http.HandlerFunc
		want     string
		mentions string
	}{
		{failure(400), "refused", "400 Bad Request"},
		{failure(401), "tried again", "401 Unauthorized"},
		{failure(403), "tried again", "403 Forbidden"},
		{failure(404), "tried again", "404 Not Found"},
		{failure(413), "tried again", "500 Internal Server Error"}, // a refusal is not known for one
		{failure(422), "tried again", "500 Internal Server Error"},
		{failure(429), "tried again", "429 Too Many Requests"},
		{failure(500), "tried again", "500 Internal Server Error"},
		{failure(502), "tried again", "503 Service Unavailable"},
		{failure(503), "tried again", "503 Service Unavailable"},
		{failure(504), "tried again", "503 Service Unavailable"},
		{answers(http.StatusOK, mediaProtobuf, response(t, 1, "one is refused")), "taken", ""}, // a partial success is swallowed
		{answers(http.StatusOK, "text/html", []byte("<html>")), "taken", ""},                   // and anything else that is a 200
	} {
		then = a.behind
		err := s.Write(t.Context(), records(t, 1, 3))
		if got := outcome(err); got != a.want {
			t.Errorf("%s, want %s: %v", got, a.want, err)
		}
		if a.mentions != "" {
			clienttest.Mentions(t, err, a.mentions, "said by what is behind")
		}
	}
}
