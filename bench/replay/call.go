package main

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// call is one operation as it is sent.
type call struct {
	operation
	Path      string
	Params    map[string]string
	UserAgent string // how its entry is found
	RequestID string // what the stub API answers as X-Request-Id
	Status    int    // what the stub API answers
	Secrets   []string

	request []byte
}

// statuses are answered in turn.
var statuses = []int{200, 201, 204, 302, 400, 401, 403, 404, 409, 422, 429, 500, 503}

func makeCalls(ops []operation, m maker) []call {
	calls := make([]call, len(ops))
	for i, o := range ops {
		c := call{operation: o, Status: statuses[i%len(statuses)], RequestID: m.uuid()}
		c.Path, c.Params = m.fill(o.Template)
		c.UserAgent = fmt.Sprintf("replay/%d (%s)", i, m.letters(12, lower))
		for name, v := range c.Params {
			if o.secret(name) {
				c.Secrets = append(c.Secrets, v)
			}
		}
		c.write(m)
		calls[i] = c
	}
	return calls
}

// write makes the call's request, with a credential in every place where one
// may travel.
func (c *call) write(m maker) {
	token, apikey, cookie, query, inBody := "sbp_"+m.letters(40, hex), "sb_secret_"+m.letters(32, lower),
		m.letters(40, lower), m.letters(40, lower), m.letters(40, lower)
	c.Secrets = append(c.Secrets, token, apikey, cookie, query)
	body := ""
	if c.Method != "GET" && c.Method != "HEAD" {
		c.Secrets = append(c.Secrets, inBody)
		body = `{"value":"` + inBody + `"}`
	}
	c.request = rig.Request(c.Method, c.Path+"?access_token="+query, "api.example.com", body,
		"User-Agent: "+c.UserAgent,
		"Authorization: Bearer "+token,
		"Apikey: "+apikey,
		"Cookie: session="+cookie,
		"Replay-Request-Id: "+c.RequestID,
		"Replay-Status: "+strconv.Itoa(c.Status),
	)
}

const answerTimeout = 10 * time.Second

// send sends the call and checks that the answer is the API's.
func (c *call) send(conn *rig.Conn) error {
	a, err := conn.Do(c.request, answerTimeout)
	if err != nil {
		return fmt.Errorf("sending %s: %w", c.key(), err)
	}
	if a.Status != c.Status || a.Header("X-Request-Id") != c.RequestID {
		return fmt.Errorf("sending %s: the answer is %d with X-Request-Id %q; the stub API gave %d with %q",
			c.key(), a.Status, a.Header("X-Request-Id"), c.Status, c.RequestID)
	}
	return nil
}

// sendInVain sends the call while the API is down. Errors are where logs say
// more than they should.
func (c *call) sendInVain(conn *rig.Conn) error {
	a, err := conn.Do(c.request, answerTimeout)
	if err != nil {
		return fmt.Errorf("sending %s to an API that is down: %w", c.key(), err)
	}
	if a.Status != http.StatusBadGateway {
		return fmt.Errorf("sending %s to an API that is down: the answer is %d", c.key(), a.Status)
	}
	return nil
}

// stub is the API: it answers what the call asks it to.
func stub(w http.ResponseWriter, r *http.Request) {
	status, err := strconv.Atoi(r.Header.Get("Replay-Status"))
	if err != nil {
		status = http.StatusTeapot
	}
	w.Header().Set("X-Request-Id", r.Header.Get("Replay-Request-Id"))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if status != http.StatusNoContent {
		_, _ = w.Write([]byte(`{"ok":true}`))
	}
}
