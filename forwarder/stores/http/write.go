package httpstore

import (
	"context"
	"net/http"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
)

// Write posts the batch, as one request unless it has entries of several instances or
// more than MaxBody takes. It ends soon after ctx and after Config.Timeout for each
// request.
func (s *Store) Write(ctx context.Context, batch []forwarder.Record) error {
	var requests []httpclient.Request
	for _, part := range divide(batch, s.c.MaxBody) {
		r := httpclient.Request{}
		r.First, r.Last = bounds(part)
		r.Fill = func(h http.Header, resolve func(string) (string, error), known *httpclient.Secrets) ([]byte, error) {
			return s.fill(h, part, r, resolve, known)
		}
		requests = append(requests, r)
	}
	return s.client.Post(ctx, requests...)
}
