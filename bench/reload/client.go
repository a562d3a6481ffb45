package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

const (
	// answerTimeout is far above what any answer here takes.
	answerTimeout = 10 * time.Second
	// renewAfter is how many calls a connection carries on average before its
	// client takes a new one, so that there are always new connections too.
	renewAfter = 100
)

// load is what the clients have in common.
type load struct {
	o       *oracle
	addr    string
	clients int
	rest    time.Duration // between two calls of a connection, on average
}

// start lets all clients call until stop, which waits for their last answers
// and leaves no connection behind.
func (l *load) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var clients sync.WaitGroup
	for range l.clients {
		rnd := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
		clients.Go(func() { l.client(ctx, rnd) })
	}
	return func() { cancel(); clients.Wait() }
}

func (l *load) client(ctx context.Context, rnd *rand.Rand) {
	for ctx.Err() == nil {
		conn, err := rig.Dial(l.addr)
		if err != nil {
			l.o.notConnected(err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		broken := brokenFresh
		for ctx.Err() == nil && l.send(conn, methods[rnd.IntN(len(methods))], broken) {
			broken = brokenReused
			if rnd.IntN(renewAfter) == 0 || !conn.Rest(time.Duration(rnd.Int64N(int64(2*l.rest)+1))) {
				break
			}
		}
		conn.Close()
	}
}

// send sends one call, notes how it ended, and reports whether the connection
// can carry another.
func (l *load) send(conn *rig.Conn, method string, broken end) bool {
	n := l.o.begin(method)
	number, body := strconv.Itoa(n), ""
	if method == "PATCH" {
		body = `{"name":"x"}`
	}
	a, err := conn.Do(rig.Request(method, path(n), l.addr, body,
		headerNumber+": "+number,
		"Authorization: Bearer sbp_0123456789abcdef0123456789abcdef01234567",
	), answerTimeout)
	switch {
	case err == nil && a.Header(headerAnswer) == number:
		l.o.ended(n, answered, a.Status)
	case err == nil && a.Status == 503 && a.Header("Retry-After") != "" && a.Header(headerAnswer) == "":
		l.o.ended(n, refused, a.Status)
	case err == nil:
		l.o.ended(n, foreign, a.Status)
	case errors.Is(err, os.ErrDeadlineExceeded):
		l.o.ended(n, hung, 0)
	case conn.Began():
		l.o.ended(n, cut, 0)
	default:
		l.o.ended(n, broken, 0)
	}
	return err == nil && !a.Close
}
