package attribution

import (
	"context"
	"crypto/rand"
	"errors"
)

// probeName is one that nothing has, in the form of every pattern.
const probeName = "caddyauditlogdoctors"

// Probe asks once about something that is not there, with the token and within the bounds
// of any other question. That there is no such thing is the best answer; the error says why
// there was none.
func (l *Lookup) Probe(ctx context.Context) error {
	own, err := l.prepared()
	if err != nil {
		return err
	}
	client := newClient(nil)
	defer client.Close()
	_, err = own.ask(ctx, client, rand.Text(), probeName)
	if errors.Is(err, errAbsent) {
		return nil
	}
	return err
}
