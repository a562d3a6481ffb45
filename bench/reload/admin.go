package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// admin is a running build's admin endpoint.
type admin struct{ *rig.Admin }

// goroutines counts those of the running build, this request's included, and
// returns where they are.
func (a *admin) goroutines(ctx context.Context) (int, []byte, error) {
	_, profile, err := a.Do(ctx, http.MethodGet, "/debug/pprof/goroutine?debug=1", "", nil)
	if err != nil {
		return 0, nil, err
	}
	var n int
	if _, err := fmt.Sscanf(string(profile), "goroutine profile: total %d", &n); err != nil {
		return 0, nil, fmt.Errorf("counting goroutines: %w: %.200q", err, profile)
	}
	return n, profile, nil
}
