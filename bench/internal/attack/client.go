package attack

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// answerTimeout is far above what any answer here takes: one that is later is
// a hang, which is counted.
const answerTimeout = 20 * time.Second

// Load is what clients send.
type Load struct {
	// Clients is how many connections there are.
	Clients int
	// Reads is the share of calls that only read.
	Reads float64
	// Pause is the mean of what each rests between two calls, so that a long run
	// does not become a run about delivery.
	Pause time.Duration
	Seed  uint64
}

// Send sends calls to addr until stop is called, which waits for the answers
// that are still to come.
func (w *Witness) Send(ctx context.Context, addr string, l Load) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	for i := range l.Clients {
		rnd := rand.New(rand.NewPCG(l.Seed, uint64(i)+2))
		go func() {
			w.client(ctx, addr, l, rnd)
			ended <- struct{}{}
		}()
	}
	return func() {
		cancel()
		for range l.Clients {
			<-ended
		}
	}
}

// client sends calls until ctx ends. A call whose connection broke is not
// repeated: the next one has a new id.
func (w *Witness) client(ctx context.Context, addr string, l Load, rnd *rand.Rand) {
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
		if _, keep := w.Call(conn, addr, k); !keep {
			conn.Close()
			conn = nil
		}
		if l.Pause > 0 {
			time.Sleep(time.Duration(rnd.Int64N(int64(2 * l.Pause))))
		}
	}
}

// Call sends one call and notes what came back: the status, 0 if no answer
// did, and whether the product let the call pass to the API. It reports
// whether the connection can carry another.
func (w *Witness) Call(conn *rig.Conn, addr string, k *Kind) (acked, keep bool) {
	id, n := w.begin(k)
	body := ""
	if k.Method != "GET" && k.Method != "DELETE" {
		body = `{"name":"x"}`
	}
	start := time.Now()
	a, err := conn.Do(rig.Request(k.Method, k.path(id), addr, body,
		headerID+": "+id,
		headerN+": "+strconv.FormatUint(n, 10),
		"Authorization: Bearer sbp_0123456789abcdef0123456789abcdef01234567",
	), answerTimeout)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			w.timedOut()
		}
		return false, false
	}
	refused := a.Status == 503 && a.Header("Retry-After") != "" && a.Header(headerStub) == ""
	w.answered(id, a.Status, refused, time.Since(start))
	if refused {
		// What it asks for, within reason.
		time.Sleep(20 * time.Millisecond)
	}
	return !refused, !a.Close
}
