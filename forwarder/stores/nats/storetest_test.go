package natsstore

import (
	"encoding/base64"
	"sync"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/storetest"
)

func contractOptions() storetest.Options {
	const unread = "messages are read by NATS's own consumers: this store neither reads nor changes them"
	return storetest.Options{Repeats: storetest.RepeatsKeptOut, NotApplicable: map[string]string{
		"a pruned entry does not come back":                                 unread,
		"a redacted text does not come back":                                unread,
		"Read yields each entry once, in its highest revision and in order": unread,
		"each field of a query narrows":                                     unread,
		"a reader that stops halfway delays no write":                       unread,
		"Received and Missing are what arrived":                             unread,
	}}
}

func TestTheStoreKeepsItsContract(t *testing.T) {
	storetest.Run(t, contractTarget, contractOptions())
}

// contractTarget is a server behind a proxy, which has the faults: a real stream cannot
// be made to dislike a text, so that the proxy answers in its place.
func contractTarget(t testing.TB) *storetest.Target {
	const user, password = "planted-contract-user", "planted-contract-password"
	t.Setenv("NATS_CONTRACT_USER", user)
	t.Setenv("NATS_CONTRACT_PASSWORD", password)
	s := serve(t, func(o *natsd.Options) { o.Username, o.Password = user, password })
	p := startProxy(t, s.addr())
	m := &Module{
		Servers: []string{p.url()}, Replicas: 1,
		User: "{env.NATS_CONTRACT_USER}", Password: "{env.NATS_CONTRACT_PASSWORD}",
	}
	provision(t, m)
	cuts := 0
	return &storetest.Target{
		Opener:      m,
		Credentials: []string{user, password, base64.StdEncoding.EncodeToString([]byte(password))},
		Documents: func() (docs [][]byte, err error) {
			nc, js := s.client()
			defer nc.Close()
			all, err := messages(js)
			for _, m := range all {
				docs = append(docs, m.data)
			}
			return docs, err
		},
		Refuse: func(text string) func() {
			p.set(func() { p.answer = refusing(text) })
			return func() { p.set(func() { p.answer = nil }) }
		},
		Break: func() func() {
			s.stop()
			return s.start
		},
		Slow: func(d time.Duration) func() {
			fast := make(chan struct{})
			p.set(func() { p.slow, p.fast = d, fast })
			return sync.OnceFunc(func() {
				p.set(func() { p.slow = 0 })
				close(fast)
			})
		},
		Cut: func() {
			p.set(func() { p.cut = []int{5, 120}[cuts%2] })
			cuts++
		},
	}
}
