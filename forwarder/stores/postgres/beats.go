package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// isSign is true of the rows in the index entry_by_beat: it is the index's condition.
const isSign = `event AND action IN ('` + audit.EventHeartbeat + `', '` + audit.EventStarted + `', '` + audit.EventStopped + `')`

// selectBeats goes from one instance to the next in that index.
const selectBeats = `WITH RECURSIVE i(instance) AS (
	SELECT min(e.instance) FROM {schema}.entry e WHERE ` + isSign + `
	UNION ALL
	SELECT (SELECT min(e.instance) FROM {schema}.entry e WHERE ` + isSign + ` AND e.instance > i.instance)
	FROM i WHERE i.instance IS NOT NULL
)
SELECT i.instance, b.timestamp, b.action
FROM i, LATERAL (
	SELECT e.timestamp, e.action FROM {schema}.entry e
	WHERE ` + isSign + ` AND e.instance = i.instance ORDER BY e.timestamp DESC, e.id DESC LIMIT 1
) b`

// selectEvents goes from one kind of event to the next in the index entry_by_event.
const selectEvents = `WITH RECURSIVE a(action) AS (
	SELECT min(e.action) FROM {schema}.entry e WHERE event
	UNION ALL
	SELECT (SELECT min(e.action) FROM {schema}.entry e WHERE event AND e.action > a.action)
	FROM a WHERE a.action IS NOT NULL
)
SELECT a.action FROM a WHERE a.action IS NOT NULL LIMIT $1`

// eventsOf are the kinds of the sidecar's events that are asked for, or that there are.
func (tx *snapshot) eventsOf(ctx context.Context, q *forwarder.Query) (kinds []string, err error) {
	if len(q.Actions) > 0 {
		return slices.Compact(slices.Sorted(slices.Values(briefTexts(q.Actions)))), nil
	}
	err = tx.query(ctx, strings.ReplaceAll(selectEvents, "{schema}", tx.schema), []any{maxSources + 1}, func(v [][]byte) { kinds = append(kinds, string(v[0])) })
	return kinds, err
}

// Beats implements forwarder.Browser.
func (r *Reader) Beats(ctx context.Context) (beats []forwarder.Beat, err error) {
	var wrong error
	err = r.snapshot(ctx, false, func(tx *snapshot) error {
		return tx.query(ctx, strings.ReplaceAll(selectBeats, "{schema}", tx.schema), nil, func(v [][]byte) {
			at, err := strconv.ParseInt(string(v[1]), 10, 64)
			if err != nil {
				wrong = fmt.Errorf("its arrival: %w", err)
			}
			beats = append(beats, forwarder.Beat{Instance: unescape(v[0]), At: time.UnixMicro(at), Stopped: string(v[2]) == audit.EventStopped})
		})
	})
	if err == nil {
		err = wrong
	}
	if err != nil {
		return nil, r.at.failing("reading", err)
	}
	return beats, nil
}
