package access

import (
	"context"
	"errors"

	"github.com/caddy-audit-log/caddy-audit-log/viewer"
)

// Probe asks once for an organization that is not there, without a credential. Being turned
// away is the best answer; the error says that the API gave none, or lets everybody in.
func (a *Ask) Probe(ctx context.Context) error {
	own := *a
	if err := own.prepare(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, own.Timeout)
	defer cancel()
	asked := newAnswers(&own)
	defer asked.client.Close()
	_, err := asked.get(ctx, "caddy-audit-doctor", "")
	switch _, denied := errors.AsType[*viewer.DeniedError](err); {
	case denied:
		return nil
	case err == nil:
		return errOpen
	default:
		return err
	}
}
