package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// signsOfLife are the events that say that a buffer is written to.
var signsOfLife = []string{audit.EventHeartbeat, audit.EventStarted, audit.EventStopped}

// The statements that go from one to the next in the index of events.
const (
	selectInstance = `SELECT min(instance) FROM entry WHERE event IS NOT NULL AND instance > ?`
	selectAction   = `SELECT min(action) FROM entry WHERE event IS NOT NULL AND instance = ? AND action > ?`
	selectSign     = `SELECT timestamp, id FROM entry WHERE event IS NOT NULL AND instance = ? AND action = ? ORDER BY timestamp DESC, id DESC LIMIT 1`
)

// Beats implements forwarder.Browser: by instance. A file of an earlier version is read as
// a whole for it.
func (r *Reader) Beats(ctx context.Context) ([]forwarder.Beat, error) {
	v, err := r.version(ctx)
	if err != nil {
		return nil, r.reading(err)
	}
	if v < 3 {
		return r.decodedBeats(ctx)
	}
	beats, err := beats(ctx, r.db)
	if err != nil {
		return nil, r.reading(err)
	}
	return beats, nil
}

// eventsOf are the walks of the sidecar's events: one for each kind of each buffer.
func eventsOf(ctx context.Context, db querier, q *forwarder.Query) (all []source, err error) {
	wanted := briefTexts(q.Actions)
	instance := ""
	for len(all) <= maxSources {
		if instance, err = next(ctx, db, selectInstance, instance); err != nil {
			return nil, err
		}
		if instance == "" {
			break
		}
		add := func(term string, args ...any) {
			var t source
			t.add("event IS NOT NULL AND instance = ? AND "+term, append([]any{instance}, args...)...)
			all = append(all, t)
		}
		add("action IS NULL") // of which there is none
		for action := ""; len(all) <= maxSources; {
			if action, err = next(ctx, db, selectAction, instance, action); err != nil {
				return nil, err
			}
			if action == "" {
				break
			}
			if len(q.Actions) == 0 || slices.Contains(wanted, any(action)) {
				add("action = ?", action)
			}
		}
	}
	if len(all) == 0 { // else all entries would be looked at for one
		var none source
		none.add("0")
		all = append(all, none)
	}
	return all, nil
}

// next is the next value in an index; empty behind the last.
func next(ctx context.Context, db querier, query string, args ...any) (string, error) {
	var v sql.NullString
	err := db.QueryRowContext(ctx, query, args...).Scan(&v)
	return v.String, err
}

func beats(ctx context.Context, db *sql.DB) (all []forwarder.Beat, err error) {
	instance := ""
	for {
		if instance, err = next(ctx, db, selectInstance, instance); err != nil || instance == "" {
			return all, err
		}
		last, stopped := forwarder.Place{}, false
		for _, code := range signsOfLife {
			var p forwarder.Place
			err := db.QueryRowContext(ctx, selectSign, instance, code).Scan(&p.Timestamp, &p.ID)
			if errors.Is(err, sql.ErrNoRows) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if last.IsZero() || p.Timestamp > last.Timestamp || p.Timestamp == last.Timestamp && p.ID > last.ID {
				last, stopped = p, code == audit.EventStopped
			}
		}
		if !last.IsZero() {
			all = append(all, forwarder.Beat{Instance: instance, At: time.UnixMicro(last.Timestamp), Stopped: stopped})
		}
	}
}

// decodedBeats are made of the entries themselves.
func (r *Reader) decodedBeats(ctx context.Context) (all []forwarder.Beat, err error) {
	at := map[string]int{} // in all
	for doc, err := range r.Read(ctx, forwarder.Query{Events: true, Filters: forwarder.Filters{Actions: signsOfLife}}) {
		if err != nil {
			return nil, err
		}
		e, err := audit.Decode(doc)
		if err != nil || e.Origin == nil {
			continue
		}
		i, known := at[e.Origin.Instance]
		if !known {
			i = len(all)
			at[e.Origin.Instance] = i
			all = append(all, forwarder.Beat{Instance: e.Origin.Instance})
		}
		all[i].At, all[i].Stopped = time.UnixMicro(e.Timestamp), e.Action.Code == audit.EventStopped
	}
	return all, nil
}
