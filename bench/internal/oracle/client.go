package oracle

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

// answerTimeout is far above what any answer here takes: one that is later is
// a hang, which is counted.
const answerTimeout = 20 * time.Second

// credential is that of all calls. Callers of whom the product knows nothing
// share a part of the buffer, so a program that takes its room away makes it
// known first.
const credential = "Authorization: Bearer sbp_0123456789abcdef0123456789abcdef01234567"

// Load is what clients send.
type Load struct {
	// Clients is how many connections there are.
	Clients int
	// Reads is the share of calls that only read.
	Reads float64
	// Pause is the mean of what each rests between two calls; zero is full
	// speed.
	Pause time.Duration
	Seed  uint64
}

// Start sends calls to addr until stop is called, which waits for the answers
// that are still to come.
func (o *Oracle) Start(ctx context.Context, addr string, l Load) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var clients sync.WaitGroup
	for i := range l.Clients {
		rnd := rand.New(rand.NewPCG(l.Seed, uint64(i)+2))
		clients.Go(func() { o.client(ctx, addr, l, rnd) })
	}
	return func() {
		cancel()
		clients.Wait()
	}
}

// client sends calls until ctx ends. A call whose connection broke is not
// repeated: the next one has a new id.
func (o *Oracle) client(ctx context.Context, addr string, l Load, rnd *rand.Rand) {
	var conn *rig.Conn
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	for ctx.Err() == nil {
		if conn == nil {
			var err error
			if conn, err = rig.Dial(addr); err != nil {
				conn = nil
				time.Sleep(10 * time.Millisecond) // the build is down
				continue
			}
		}
		k := &ReadKind
		if rnd.Float64() >= l.Reads {
			k = &Kinds[rnd.IntN(len(Kinds))]
		}
		if _, keep := o.Send(conn, addr, k, 0); !keep {
			conn.Close()
			conn = nil
		}
		if l.Pause > 0 {
			time.Sleep(time.Duration(rnd.Int64N(int64(2 * l.Pause))))
		}
	}
}

// Send sends one call, which the API is to hold for a while, and returns what
// is known of it then. It reports whether the connection can carry another.
func (o *Oracle) Send(conn *rig.Conn, addr string, k *Kind, hold time.Duration) (c Call, keep bool) {
	id, n := o.begin(k, hold)
	body := ""
	if k.Method != "GET" && k.Method != "DELETE" {
		body = `{"name":"x"}`
	}
	a, err := conn.Do(rig.Request(k.Method, k.Path(id), addr, body,
		HeaderID+": "+id,
		headerN+": "+strconv.FormatUint(n, 10),
		headerHold+": "+hold.String(),
		credential,
	), answerTimeout+hold)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			o.timedOut()
		}
		return Call{Kind: k}, false
	}
	refused := a.Status == 503 && a.Header(headerStub) == "" &&
		a.Header("Retry-After") != "" && a.Header("Content-Type") == "application/problem+json"
	c = o.answered(id, a.Status, refused)
	if refused {
		// What it asks for, within reason.
		time.Sleep(20 * time.Millisecond)
	}
	return c, !a.Close
}
