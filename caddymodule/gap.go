package caddymodule

import (
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
)

// gapEntry makes the entry that tells what is not in the log. The buffer appends it
// in the same commit that counts it.
func gapEntry(g buffer.Gap) []byte {
	observeGap(g)
	facts := map[string]any{"reason": string(g.Reason)}
	if g.AtLeast {
		facts["count_at_least"] = g.Count
	} else {
		facts["count"] = g.Count
	}
	set := func(name, value string) {
		if value != "" {
			facts[name] = value
		}
	}
	set("cause", g.Cause)
	set("segment", g.Segment)
	set("store", g.Store)
	set("previous_instance", g.Instance)
	for name, n := range map[string]uint64{"first": g.First, "last": g.Last, "previous_head": g.Head, "missing_since": g.MissingSince} {
		if n > 0 {
			facts[name] = n
		}
	}
	if len(g.Ranges) > 0 {
		facts["ranges"] = g.Ranges
	}
	for name, t := range map[string]time.Time{"since": g.Since, "until": g.Until} {
		if !t.IsZero() {
			facts[name] = t.UTC().Format(time.RFC3339Nano)
		}
	}
	payload, err := audit.Event(audit.EventGap, time.Now(), facts).Encode()
	if err != nil {
		return nil // facts of these kinds always encode
	}
	return payload
}
