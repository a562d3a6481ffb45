package oracle

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
const answerTimeout = 10 * time.Second

// Client sends calls as fast as it can until ctx ends, a share of them reads.
// A call whose connection broke is not repeated: the next one has a new id.
func (o *Oracle) Client(ctx context.Context, addr string, reads float64, rnd *rand.Rand) {
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
		if rnd.Float64() >= reads {
			k = &Kinds[rnd.IntN(len(Kinds))]
		}
		if !o.Send(conn, addr, k, 0) {
			conn.Close()
			conn = nil
		}
	}
}

// Send sends one call, which the API is to hold for a while, and notes what
// came back. It reports whether the connection can carry another.
func (o *Oracle) Send(conn *rig.Conn, addr string, k *Kind, hold time.Duration) bool {
	id, n := o.begin(k, hold)
	body := ""
	if k.Method != "GET" && k.Method != "DELETE" {
		body = `{"name":"x"}`
	}
	a, err := conn.Do(rig.Request(k.Method, k.Path(id), addr, body,
		HeaderID+": "+id,
		headerN+": "+strconv.FormatUint(n, 10),
		headerHold+": "+hold.String(),
		"Authorization: Bearer sbp_0123456789abcdef0123456789abcdef01234567",
	), answerTimeout+hold)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			o.timedOut()
		}
		return false
	}
	refused := a.Status == 503 && a.Header(headerStub) == "" &&
		a.Header("Retry-After") != "" && a.Header("Content-Type") == "application/problem+json"
	o.answered(id, a.Status, refused)
	if refused {
		// What it asks for, within reason.
		time.Sleep(20 * time.Millisecond)
	}
	return !a.Close
}
