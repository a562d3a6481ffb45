package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const (
	// How many rows a step looks at: firstRows in the first, and then as many as take
	// about Expiry.Step.
	firstRows = 200
	leastRows = 20
	mostRows  = 2000
	// pruneLock is how long pruning waits for a lock that others hold and wait for
	// behind it, in milliseconds.
	pruneLock = "30ms"
	// detachTries is how often a partition's lock is tried in one pass before its rows
	// are deleted one by one.
	detachTries = 20
	// sweepRows is how many rows are deleted from a partition before what is left of
	// them is swept up. Autovacuum would come too, but only after a while.
	sweepRows = 20_000
	// sweepAgain is after how many that is done while there are more to delete.
	sweepAgain = 200_000
	// stepTries is how often a step is tried while others are in its way.
	stepTries = 10
	// dropTimeout bounds the counting of a whole partition, which nobody waits for.
	dropTimeout = 15 * time.Minute
)

// pass is one way through all partitions.
type pass struct {
	leaves []*leaf // that may have something
}

// leaf is a partition that has rows.
type leaf struct {
	name, parent string
	class        string
	// from and to bound its arrivals, from <= t < to. Both are zero in a default one.
	from, to int64
	tries    int // to detach it
	deleted  int
	whole    bool // it may be detached, as far as the catalog says
}

// step is one step of pruning, in one transaction.
type step struct {
	*Store
	conn   *pgx.Conn
	expiry *forwarder.Expiry
	now    int64 // the earlier of two clocks, in microseconds
	holds  []forwarder.Hold
	unmark bool
	result forwarder.Pruned
	counts totals
}

// Prune implements forwarder.Keeper. Of several sidecars one prunes at a time; the others
// find nothing to do. It needs the role that owns the tables, or a member of it, since
// nobody else can drop a partition: see docs/postgres.md.
//
// Write waits for it only where a partition is detached, or for a revision of an entry that
// a step has just looked at. A step that finds somebody in its way, that drops a partition
// or that sweeps one up does nothing of what Pruned counts but says that there is more.
func (s *Store) Prune(ctx context.Context, e forwarder.Expiry) (forwarder.Pruned, error) {
	if e.Step <= 0 {
		e.Step = forwarder.DefaultPruneStep
	}
	p := &step{Store: s, expiry: &e, counts: totals{}}
	err := s.keeper(ctx, func(conn *pgx.Conn) error {
		p.conn = conn
		err := p.run(ctx)
		if err == nil {
			s.keeping.failed = 0
		}
		return err
	})
	if err != nil && s.keeping.inTheWay(err) {
		return forwarder.Pruned{More: true}, nil
	}
	if err != nil {
		return forwarder.Pruned{}, s.at.failing("deleting what has expired from", err)
	}
	p.result.Deleted = p.counts.sorted()
	return p.result, nil
}

// inTheWay reports whether a step has failed because of what others do at the moment, and
// is to be tried again: a few times, since it may be for long.
func (k *keeping) inTheWay(err error) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch sqlState(err) {
	case "55P03", "40P01", "40001":
		k.failed++
	default:
		k.failed = 0
		return false
	}
	return k.failed%stepTries != 0
}

// run makes the step: the first of these that has something to do. What was detached is
// counted, marks of holds are cleared, a partition is detached, and rows are deleted.
func (p *step) run(ctx context.Context) error {
	if n := len(p.keeping.sweep); n > 0 {
		name := p.keeping.sweep[n-1]
		p.keeping.sweep = p.keeping.sweep[:n-1]
		return p.sweep(ctx, name)
	}
	bounded, cancel := context.WithTimeout(ctx, p.at.timeout)
	defer cancel()
	mine, dropping, err := p.begin(bounded)
	if err != nil || !mine {
		return errors.Join(err, p.end(bounded, "ROLLBACK"))
	}
	if dropping != "" {
		long, cancel := context.WithTimeout(ctx, dropTimeout)
		defer cancel()
		return p.drop(long, dropping)
	}
	if p.unmark {
		did, err := p.clearMarks(bounded)
		if err != nil || did {
			p.result.More = did
			return p.commit(bounded, err)
		}
	}
	if p.keeping.pass == nil {
		if p.keeping.pass, err = p.begun(bounded); err != nil {
			return p.commit(bounded, err)
		}
	}
	if name, tried, err := p.detach(bounded); err != nil {
		return err
	} else if tried {
		p.result.More = true
		if name == "" {
			return nil // its lock is tried again in the next step
		}
		long, cancel := context.WithTimeout(ctx, dropTimeout)
		defer cancel()
		mine, name, err := p.begin(long)
		if err != nil || !mine || name == "" {
			return errors.Join(err, p.end(long, "ROLLBACK")) // another sidecar goes on with it
		}
		return p.drop(long, name)
	}
	return p.commit(bounded, p.rows(bounded))
}

// sweep takes the remains of deleted rows out of a partition and its indexes, which else
// the next to read there would pass one by one. Nobody waits for it.
func (p *step) sweep(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, dropTimeout)
	defer cancel()
	p.result.More = true
	// At the pace of autovacuum, and not as fast as the disk is: others wait for that.
	_, err := p.conn.Exec(ctx, `SET vacuum_cost_delay = '2ms'`)
	if err == nil {
		_, err = p.conn.Exec(ctx, `VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF) `+p.table(name))
	}
	if sqlState(err) == "42P01" {
		return nil // dropped meanwhile
	}
	return err
}

// begin begins the transaction, and says whether it is this sidecar that prunes, and what
// was detached and not dropped yet.
func (p *step) begin(ctx context.Context) (mine bool, dropping string, err error) {
	var owner bool
	var clock int64
	var b pgx.Batch
	b.Queue(`BEGIN`)
	// A hold that is being set is waited for, and then nobody for long.
	b.Queue(`SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', $1, true), set_config('timezone', 'UTC', true)`, p.milliseconds())
	b.Queue(fmt.Sprintf(`SELECT pg_has_role(c.relowner, 'USAGE'), pg_try_advisory_xact_lock(%s), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
		FROM pg_class c WHERE c.oid = '%s.entry'::regclass`, p.at.lock(lockPrune), p.at.schema)).
		QueryRow(func(row pgx.Row) error { return row.Scan(&owner, &mine, &clock) })
	if err := p.conn.SendBatch(ctx, &b).Close(); err != nil {
		return false, "", err
	}
	if !owner {
		return false, "", errNoOwner
	}
	if !mine {
		return false, "", nil
	}
	p.now = min(clock, p.expiry.Now.UnixMicro())
	var more pgx.Batch
	more.Queue(`SELECT pg_advisory_xact_lock_shared(` + p.at.lock(lockHold) + `)`)
	// Nobody relies on a step: one that a crash undoes is made again. So it does not keep
	// the disk from those who wait for it.
	more.Queue(`SELECT set_config('lock_timeout', $1, true), set_config('synchronous_commit', 'off', true)`, pruneLock)
	more.Queue(fmt.Sprintf(`SELECT unmark, coalesce((SELECT min(name) FROM %[1]s.dropping), '') FROM %[1]s.pruning`, p.at.schema)).
		QueryRow(func(row pgx.Row) error { return row.Scan(&p.unmark, &dropping) })
	if err := p.conn.SendBatch(ctx, &more).Close(); err != nil {
		return false, "", err
	}
	p.holds, err = holdsOf(ctx, p.conn, p.at.schema)
	return true, dropping, err
}

// end ends the transaction.
func (p *step) end(ctx context.Context, how string) error {
	_, err := p.conn.Exec(ctx, how)
	return err
}

// commit commits the step unless there is an error. What is not committed was not done.
func (p *step) commit(ctx context.Context, err error) error {
	if err == nil {
		return p.end(ctx, "COMMIT")
	}
	return errors.Join(err, p.end(ctx, "ROLLBACK"))
}

// sql replaces {schema}.
func (p *step) sql(text string) string { return strings.ReplaceAll(text, "{schema}", p.at.schema) }

// table is a partition's name with its schema's.
func (p *step) table(name string) string { return p.at.schema + "." + pgx.Identifier{name}.Sanitize() }

var (
	rangeForm = regexp.MustCompile(`^FOR VALUES FROM \('?(-?\d+)'?\) TO \('?(-?\d+)'?\)$`)
	classForm = regexp.MustCompile(`^FOR VALUES IN \('([a-z0-9_-]+)'\)$`)
)

// begun looks which partitions there are.
func (p *step) begun(ctx context.Context) (*pass, error) {
	rows, err := p.conn.Query(ctx, p.sql(`SELECT c.relname, up.relname, coalesce(pg_get_expr(c.relpartbound, c.oid), ''), coalesce(pg_get_expr(up.relpartbound, up.oid), '')
		FROM pg_partition_tree('{schema}.entry') t JOIN pg_class c ON c.oid = t.relid JOIN pg_class up ON up.oid = t.parentrelid
		WHERE t.isleaf ORDER BY c.relname`))
	if err != nil {
		return nil, err
	}
	leaves, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*leaf, error) {
		l := &leaf{}
		var bound, class string
		if err := row.Scan(&l.name, &l.parent, &bound, &class); err != nil {
			return nil, err
		}
		if m := rangeForm.FindStringSubmatch(bound); m != nil {
			if c := classForm.FindStringSubmatch(class); c != nil {
				l.class, l.whole = c[1], true
				l.from, _ = strconv.ParseInt(m[1], 10, 64)
				l.to, _ = strconv.ParseInt(m[2], 10, 64)
			}
		}
		return l, nil
	})
	return &pass{leaves: leaves}, err
}

// until is until when the terms keep what arrived then: zero if they say nothing of it.
func (p *step) until(class string, arrival int64) int64 {
	if p.expiry.Until == nil {
		return 0
	}
	return p.expiry.Until(class, arrival)
}

func (p *step) rule(class string) string {
	if p.expiry.Rule == nil {
		return ""
	}
	return p.expiry.Rule(class)
}

// clearMarks asks the rows again that a hold has kept, a few at a time. It reports false
// when there were none.
func (p *step) clearMarks(ctx context.Context) (did bool, err error) {
	tag, err := p.conn.Exec(ctx, p.sql(`UPDATE {schema}.entry e SET held = false
		FROM (SELECT timestamp, id, class FROM {schema}.entry WHERE held LIMIT $1 FOR UPDATE SKIP LOCKED) h
		WHERE e.timestamp = h.timestamp AND e.id = h.id AND e.class = h.class`), firstRows)
	if err != nil || tag.RowsAffected() > 0 {
		return err == nil, err
	}
	_, err = p.conn.Exec(ctx, p.sql(`UPDATE {schema}.pruning SET unmark = false WHERE NOT EXISTS (SELECT FROM {schema}.entry WHERE held)`))
	p.keeping.pass = nil // what is asked again may be anywhere
	return false, err
}

// found is a row that has expired by its own retention.
type found struct {
	ctid        string // its place
	class       string
	instance    string
	sequence    int64
	arrival     int64
	keep        int64
	bytes       int64
	heldByHolds bool
}

// rows deletes rows of the partitions in turn, as many as take about Expiry.Step.
func (p *step) rows(ctx context.Context) error {
	k := &p.keeping
	if k.rows == 0 {
		k.rows = firstRows
	}
	began, looked := time.Now(), 0
	for looked == 0 && len(k.pass.leaves) > 0 {
		l := k.pass.leaves[0]
		all, err := p.expired(ctx, l, k.rows)
		if err != nil {
			return err
		}
		if looked = len(all); looked > 0 {
			if err := p.decide(ctx, l, all); err != nil {
				return err
			}
		}
		if looked < k.rows {
			k.pass.leaves = k.pass.leaves[1:]
		}
		if l.deleted >= sweepAgain || looked < k.rows && l.deleted >= sweepRows {
			k.sweep, l.deleted = append(k.sweep, l.name), 0
		}
	}
	if looked == 0 {
		k.pass = nil
		return nil
	}
	p.result.More = true
	if took := time.Since(began); looked == k.rows || took > p.expiry.Step {
		// Half the way to what would have taken so long.
		right := int(float64(looked) * float64(p.expiry.Step) / float64(max(took, time.Microsecond)))
		k.rows = min(max((k.rows+right)/2, leastRows), mostRows)
	}
	return nil
}

// expired finds rows of a partition whose own retention has ended, and locks them. What
// others have locked is left for another time.
func (p *step) expired(ctx context.Context, l *leaf, limit int) (all []found, err error) {
	also := ""
	if len(p.holds) > 0 {
		also = ", " + rowColumns
	}
	rows, err := p.conn.Query(ctx, fmt.Sprintf(`SELECT ctid::text, class, instance, sequence, timestamp, keep_until,
		coalesce(size, octet_length(raw), octet_length(document::text))%s
		FROM %s WHERE keep_until <= $1 AND NOT held AND NOT pending ORDER BY keep_until LIMIT $2 FOR UPDATE SKIP LOCKED`, also, p.table(l.name)), p.now, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		v := rows.RawValues()
		f := found{ctid: string(v[0]), class: string(v[1]), instance: string(v[2])}
		for i, to := range []*int64{&f.sequence, &f.arrival, &f.keep, &f.bytes} {
			if *to, err = strconv.ParseInt(string(v[3+i]), 10, 64); err != nil {
				return nil, err
			}
		}
		if len(p.holds) > 0 {
			var r row
			if err := r.scan(v[7:]); err != nil {
				return nil, err
			}
			e, err := r.decode()
			if err != nil {
				// What cannot be read cannot be shown to be free of a hold.
				f.heldByHolds = true
			} else {
				f.heldByHolds = forwarder.IsHeld(p.holds, e)
			}
		}
		all = append(all, f)
	}
	return all, rows.Err()
}

// decide extends, marks and deletes rows of one partition.
func (p *step) decide(ctx context.Context, l *leaf, all []found) error {
	var extended, held, deleted []string
	var extendedTo []int64
	var gone []found
	for _, f := range all {
		until := p.until(f.class, f.arrival)
		switch {
		case until > p.now && until > f.keep:
			extended, extendedTo = append(extended, f.ctid), append(extendedTo, until)
		case f.heldByHolds:
			held = append(held, f.ctid)
		default:
			deleted, gone = append(deleted, f.ctid), append(gone, f)
		}
	}
	p.result.Extended += int64(len(extended))
	p.result.Held += int64(len(held))
	table := p.table(l.name)
	var b pgx.Batch
	want := func(n int) func(tag pgconn.CommandTag) error {
		return func(tag pgconn.CommandTag) error {
			if tag.RowsAffected() != int64(n) {
				return fmt.Errorf("of %d locked rows only %d are there", n, tag.RowsAffected())
			}
			return nil
		}
	}
	if len(extended) > 0 {
		b.Queue(`UPDATE `+table+` e SET keep_until = u.until FROM unnest($1::text[]::tid[], $2::bigint[]) AS u(at, until) WHERE e.ctid = u.at`, extended, extendedTo).
			Exec(want(len(extended)))
	}
	if len(held) > 0 {
		b.Queue(`UPDATE `+table+` SET held = true WHERE ctid = ANY ($1::text[]::tid[])`, held).Exec(want(len(held)))
	}
	if len(deleted) > 0 {
		b.Queue(`DELETE FROM `+table+` WHERE ctid = ANY ($1::text[]::tid[])`, deleted).Exec(want(len(deleted)))
		p.receive(&b, gone)
		l.deleted += len(deleted)
	}
	if b.Len() == 0 {
		return nil
	}
	return p.conn.SendBatch(ctx, &b).Close()
}

// receive queues what is noted of deleted rows: receipts, sequences, and totals.
func (p *step) receive(b *pgx.Batch, gone []found) {
	type of struct{ class, instance string }
	receipts := map[of]*forwarder.Receipt{}
	counts := totals{}
	for _, f := range gone {
		k := of{f.class, f.instance}
		r, ok := receipts[k]
		if !ok {
			r = &forwarder.Receipt{First: uint64(f.sequence), Last: uint64(f.sequence), FirstArrival: f.arrival, LastArrival: f.arrival}
			receipts[k] = r
		}
		r.First, r.Last = min(r.First, uint64(f.sequence)), max(r.Last, uint64(f.sequence))
		r.FirstArrival, r.LastArrival = min(r.FirstArrival, f.arrival), max(r.LastArrival, f.arrival)
		r.KeptUntil = max(r.KeptUntil, f.keep)
		r.Entries++
		counts.add(forwarder.ClassTotal{Class: f.class, Entries: 1, Bytes: f.bytes})
	}
	keys := slices.SortedFunc(maps.Keys(receipts), func(a, b of) int {
		return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.instance, b.instance))
	})
	for _, k := range keys {
		r := receipts[k]
		b.Queue(p.sql(receiptSQL+`VALUES ($1, $2, to_timestamp($3::bigint / 1e6)::date, 1, $4, $5, $6, $7, $8, $9, $10, 0, $3, $3)`+receiptGrows),
			k.class, k.instance, p.now, p.rule(unescape([]byte(k.class))), int64(r.First), int64(r.Last), r.FirstArrival, r.LastArrival, r.KeptUntil, r.Entries)
	}
	for _, class := range slices.Sorted(maps.Keys(counts)) {
		c := counts[class]
		p.counts.add(c)
		b.Queue(p.sql(totalSQL), class, c.Entries, c.Bytes)
	}
	slices.SortFunc(gone, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.instance, b.instance), cmp.Compare(a.sequence, b.sequence))
	})
	var instances []string
	var firsts, lasts []int64
	for _, f := range gone {
		if n := len(lasts); n > 0 && instances[n-1] == f.instance && lasts[n-1]+1 == f.sequence {
			lasts[n-1] = f.sequence
			continue
		}
		instances, firsts, lasts = append(instances, f.instance), append(firsts, f.sequence), append(lasts, f.sequence)
	}
	b.Queue(p.sql(`SELECT {schema}.forget($1, $2, $3)`), instances, firsts, lasts)
}

// Who prunes has side 1 of receipts and totals.
const (
	receiptSQL = `INSERT INTO {schema}.receipt AS r (class, instance, day, side, rule, first, last, first_arrival, last_arrival, kept_until,
		entries, late, since, until) `
	receiptGrows = ` ON CONFLICT (class, instance, day, side) DO UPDATE SET rule = excluded.rule,
		first = least(r.first, excluded.first), last = greatest(r.last, excluded.last),
		first_arrival = least(r.first_arrival, excluded.first_arrival), last_arrival = greatest(r.last_arrival, excluded.last_arrival),
		kept_until = greatest(r.kept_until, excluded.kept_until), entries = r.entries + excluded.entries,
		since = least(r.since, excluded.since), until = greatest(r.until, excluded.until)`
	totalSQL = `INSERT INTO {schema}.total AS t (class, instance, side, entries, bytes) VALUES ($1, '', 1, -$2::bigint, -$3::bigint)
		ON CONFLICT (class, instance, side) DO UPDATE SET entries = t.entries + excluded.entries, bytes = t.bytes + excluded.bytes`
)

// isHeldBetween reports whether a hold may select what arrived then.
func (p *step) isHeldBetween(from, to int64) bool {
	return slices.ContainsFunc(p.holds, func(h forwarder.Hold) bool {
		return (h.From.IsZero() || microseconds(h.From) < to) && (h.To.IsZero() || microseconds(h.To) > from)
	})
}
