package caddymodule

import (
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
)

// status is not ok while the buffer is not open.
func (a *App) status() (operator.Status, bool) {
	sh := a.shared.Load()
	if sh == nil {
		return operator.Status{}, false
	}
	b := sh.buf.Stats()
	s := operator.StatusOf(a.dir, b, a.stores)
	s.Live = true
	for i, d := range a.deliveries {
		fs := d.forwarder.Status()
		st := &s.Stores[i]
		if !fs.FailingSince.IsZero() {
			st.FailingSince, st.LastError = &fs.FailingSince, fs.LastError
		}
		if d.keeping != nil {
			k := d.keeping.Status()
			st.Retention = &k
		}
	}
	oldest := b.Head
	for _, st := range s.Stores {
		if st.Configured {
			oldest = min(oldest, st.Position.Position)
		}
	}
	if oldest < b.Head {
		if t, ok := sh.buf.AppendedAt(oldest + 1); ok {
			s.OldestPendingSeconds = max(0, time.Since(t).Seconds())
		}
	}
	return s, true
}
