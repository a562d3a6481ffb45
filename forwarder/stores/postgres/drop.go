package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// A partition of which all has expired is taken away in two transactions. The first
// detaches it, with a receipt for its arrivals: it needs a lock that everybody else would
// wait for, so it does nothing else. From then on nothing of it is read, and nothing of
// such an arrival is written. The second counts what the partition had, and drops it;
// nobody waits for that, however long it takes. What a kill leaves between the two is
// counted as deleted by Classes, Receipts and Lost, and dropped by the next step.

// restMicros is for how long a partition is left alone after its month has ended, so that
// none is made and dropped in turn.
const restMicros = 7 * 24 * 3600 * 1_000_000

// detach detaches the next partition that has expired. tried says that there was one, and
// name is empty if its lock was not to be had. It ends the transaction if it has tried.
func (p *step) detach(ctx context.Context) (name string, tried bool, err error) {
	for _, l := range p.keeping.pass.leaves {
		if !l.whole || l.to > p.now-restMicros || p.isHeldBetween(l.from, l.to) {
			continue
		}
		if until := p.until(l.class, l.to-1); until > p.now || l.tries >= detachTries {
			continue
		}
		ok, _, err := p.hasExpired(ctx, l.name)
		if err != nil {
			return "", false, p.commit(ctx, err)
		}
		if !ok {
			l.whole = false // in this pass
			continue
		}
		l.tries++
		name, err := p.detachOne(ctx, l)
		switch {
		case errors.Is(err, errNotExpired):
			l.whole = false
			return "", true, p.end(ctx, "ROLLBACK")
		case sqlState(err) == "55P03":
			return "", true, p.end(ctx, "ROLLBACK")
		case err != nil:
			return "", true, errors.Join(err, p.end(ctx, "ROLLBACK"))
		}
		l.whole = false
		// What is not on disk at once is attached again after a crash.
		if err := p.end(ctx, "COMMIT"); err != nil {
			return "", true, err
		}
		p.keeping.pass = nil
		return name, true, nil
	}
	return "", false, nil
}

// hasExpired says whether all rows of a partition may be deleted, and what the latest end
// of their retentions is: each by an index.
func (p *step) hasExpired(ctx context.Context, name string) (ok bool, kept int64, err error) {
	err = p.conn.QueryRow(ctx, fmt.Sprintf(`SELECT NOT EXISTS (SELECT FROM %[1]s WHERE keep_until IS NULL) AND NOT EXISTS (SELECT FROM %[1]s WHERE pending)
		AND NOT EXISTS (SELECT FROM %[1]s WHERE held), coalesce((SELECT max(keep_until) FROM %[1]s WHERE NOT held AND NOT pending), 0)`, p.table(name))).Scan(&ok, &kept)
	return ok && kept <= p.now, kept, err
}

// errNotExpired says that something has come to a partition before it was detached.
var errNotExpired = errors.New("it has not expired any more")

// detachOne detaches a partition and writes a receipt for its arrivals.
func (p *step) detachOne(ctx context.Context, l *leaf) (name string, err error) {
	name = "dropping:" + strconv.FormatInt(l.from, 10) + ":" + l.class
	for _, sql := range []string{
		// Whoever has a lock on the partition has one on what it is in, too. So this is the
		// only one that is waited for.
		`LOCK TABLE ONLY ` + p.table(l.parent) + ` IN ACCESS EXCLUSIVE MODE`,
		`ALTER TABLE ` + p.table(l.parent) + ` DETACH PARTITION ` + p.table(l.name),
	} {
		if _, err := p.conn.Exec(ctx, sql); err != nil {
			return "", err
		}
	}
	ok, kept, err := p.hasExpired(ctx, l.name)
	if err != nil {
		return "", err
	}
	if !ok {
		return "", errNotExpired
	}
	var readers string
	var b pgx.Batch
	b.Queue(`ALTER TABLE ` + p.table(l.name) + ` RENAME TO ` + pgx.Identifier{name}.Sanitize())
	b.Queue(p.sql(`INSERT INTO {schema}.pruned AS p (class, first, last, kept_until) VALUES ($1, $2, $3, $4)
		ON CONFLICT (class, first, last) DO UPDATE SET kept_until = greatest(p.kept_until, excluded.kept_until) WHERE p.kept_until IS NOT NULL`), l.class, l.from, l.to-1, kept)
	b.Queue(p.sql(`INSERT INTO {schema}.dropping (name, class, rule, since) VALUES ($1, $2, $3, $4)`), name, l.class, p.rule(l.class), p.now)
	// Who may read entries may count those of it.
	b.Queue(p.sql(`SELECT coalesce(string_agg(DISTINCT a.grantee::regrole::text, ', '), '') FROM pg_class c, aclexplode(c.relacl) a
		WHERE c.oid = '{schema}.entry'::regclass AND a.privilege_type = 'SELECT' AND a.grantee NOT IN (0, c.relowner)`)).
		QueryRow(func(row pgx.Row) error { return row.Scan(&readers) })
	if err := p.conn.SendBatch(ctx, &b).Close(); err != nil || readers == "" {
		return name, err
	}
	_, err = p.conn.Exec(ctx, `GRANT SELECT ON `+p.table(name)+` TO `+readers)
	return name, err
}

// drop counts a detached partition, writes its receipts, and drops it.
func (p *step) drop(ctx context.Context, name string) error {
	var class, rule string
	var since int64
	err := p.conn.QueryRow(ctx, p.sql(`SELECT class, rule, since FROM {schema}.dropping WHERE name = $1`), name).Scan(&class, &rule, &since)
	if err != nil {
		return p.commit(ctx, err)
	}
	table := p.table(name)
	var entries, bytes int64
	var b pgx.Batch
	b.Queue(`SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', '5s', true)`, strconv.FormatInt(dropTimeout.Milliseconds(), 10))
	b.Queue(`SELECT count(*), coalesce(sum(coalesce(size, octet_length(raw), octet_length(document::text))), 0)::bigint FROM ` + table).
		QueryRow(func(row pgx.Row) error { return row.Scan(&entries, &bytes) })
	b.Queue(p.sql(receiptSQL)+`SELECT $1, instance, to_timestamp($2::bigint / 1e6)::date, 1, $3, min(sequence), max(sequence), min(timestamp), max(timestamp),
		max(keep_until), count(*), 0, $2, $2 FROM `+table+` GROUP BY instance ORDER BY instance`+receiptGrows, class, since, rule)
	// Runs of sequences: in each, sequence and row number differ by the same.
	b.Queue(`SELECT ` + p.at.schema + `.forget(array_agg(instance ORDER BY instance, first), array_agg(first ORDER BY instance, first), array_agg(last ORDER BY instance, first)) FROM (
		SELECT instance, min(sequence) AS first, max(sequence) AS last FROM (
			SELECT instance, sequence, sequence - row_number() OVER (PARTITION BY instance ORDER BY sequence) AS run
			FROM (SELECT DISTINCT instance, sequence FROM ` + table + `) s) s GROUP BY instance, run) s`)
	b.Queue(`DROP TABLE ` + table)
	b.Queue(p.sql(`DELETE FROM {schema}.dropping WHERE name = $1`), name)
	if err := p.conn.SendBatch(ctx, &b).Close(); err != nil {
		return p.commit(ctx, err)
	}
	if entries > 0 {
		if _, err := p.conn.Exec(ctx, p.sql(totalSQL), class, entries, bytes); err != nil {
			return p.commit(ctx, err)
		}
	}
	p.result.More = true
	p.counts.add(forwarder.ClassTotal{Class: class, Entries: entries, Bytes: bytes})
	return p.commit(ctx, nil)
}
