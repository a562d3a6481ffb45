-- Version 2 of the schema: retention. {schema} is its quoted name.
--
-- Nobody writes meanwhile: what is counted here must not change. Entries wait in their
-- buffers.
LOCK TABLE {schema}.received, {schema}.entry IN SHARE ROW EXCLUSIVE MODE;

-- The sequences that have arrived and have no row for a good reason: replaced by a higher
-- revision, ignored because a higher one is there, deleted with a receipt, or expired
-- before they came. Lost is what is in received and neither in a row nor here.
--
-- Ranges may touch and overlap. Writers only add some, so that they never wait for each
-- other; whoever prunes merges them.
CREATE TABLE {schema}.gone (
	instance text   COLLATE "C" NOT NULL,
	first    bigint NOT NULL,
	last     bigint NOT NULL,
	PRIMARY KEY (instance, first)
) WITH (fillfactor = 50);

-- What version 1 replaced is not known: all that has no row is taken for that.
INSERT INTO {schema}.gone (instance, first, last)
SELECT g.instance, g.sequence + 1, g.next - 1
FROM (
	SELECT s.instance, s.sequence, lead(s.sequence) OVER (PARTITION BY s.instance ORDER BY s.sequence) AS next
	FROM (
		SELECT e.instance, e.sequence FROM {schema}.entry e
		UNION ALL SELECT r.instance, r.first - 1 FROM {schema}.received r
		UNION ALL SELECT r.instance, r.last + 1 FROM {schema}.received r WHERE r.last < 9223372036854775807
	) s
) g
JOIN {schema}.received r ON r.instance = g.instance AND r.first <= g.sequence + 1 AND r.last >= g.next - 1
WHERE g.next > g.sequence + 1;

-- How many entries there are, as changes that are added up: of a class, '' for those
-- without a stamp, by who changes them, so that nobody waits for another. The writers of
-- a buffer, who take turns, have side 0 and their instance; whoever prunes has side 1,
-- and whoever stamps anew side 2.
CREATE TABLE {schema}.total (
	class    text     COLLATE "C" NOT NULL,
	instance text     COLLATE "C" NOT NULL,
	side     smallint NOT NULL,
	entries  bigint   NOT NULL,
	bytes    bigint   NOT NULL,
	PRIMARY KEY (class, instance, side)
) WITH (fillfactor = 50);

INSERT INTO {schema}.total (class, instance, side, entries, bytes)
SELECT '', e.instance, 0, count(*), sum(coalesce(octet_length(e.raw), octet_length(e.document::text)))
FROM {schema}.entry e GROUP BY e.instance;

-- The stamp. What is not known is NULL; without keep_until there is no stamp, and the row
-- is never deleted. The organization's id and slug are those of the stamp alone:
-- organization_slug has the captured one, or else this. NULL in size is that of a row of
-- version 1: its document has to be measured.
ALTER TABLE {schema}.entry
	ADD COLUMN keep_until   bigint,
	ADD COLUMN plan         text COLLATE "C",
	ADD COLUMN membership   text COLLATE "C",
	ADD COLUMN stamped_id   text COLLATE "C",
	ADD COLUMN stamped_slug text COLLATE "C",
	ADD COLUMN pending      boolean NOT NULL DEFAULT false,
	ADD COLUMN held         boolean NOT NULL DEFAULT false,
	ADD COLUMN size         integer;

-- What expires, in that order; many rows share a day, which a B-tree keeps once.
CREATE INDEX entry_by_expiry ON {schema}.entry (keep_until) WHERE NOT held AND NOT pending;
CREATE INDEX entry_by_pending ON {schema}.entry (timestamp, id) WHERE pending;
CREATE INDEX entry_by_nothing ON {schema}.entry (timestamp, id) WHERE keep_until IS NULL;
CREATE INDEX entry_by_hold ON {schema}.entry (timestamp, id) WHERE held;

-- The holds in force. hold is the whole of it, as JSON; the columns are for write(),
-- which compares them with documents and with stamps.
CREATE TABLE {schema}.hold (
	id           text   COLLATE "C" PRIMARY KEY,
	hold         text   NOT NULL,
	organization text   COLLATE "C", -- as documents have it
	stamped      text   COLLATE "C", -- as stamps have it
	actor        text   COLLATE "C",
	first        bigint, -- arrival, inclusive
	before       bigint  -- arrival, exclusive
);

-- Whether the marks of held rows are to be cleared, since a hold was released or changed:
-- then the rows are asked again.
CREATE TABLE {schema}.pruning (
	unmark boolean NOT NULL
);
INSERT INTO {schema}.pruning VALUES (false);

-- The receipts: one for each class, buffer and UTC day of deletion, that grows. Side 0 is
-- what had expired before it came, and side 1 what was deleted; see total.
CREATE TABLE {schema}.receipt (
	class         text     COLLATE "C" NOT NULL,
	instance      text     COLLATE "C" NOT NULL,
	day           date     NOT NULL,
	side          smallint NOT NULL,
	rule          text     NOT NULL,
	first         bigint   NOT NULL, -- sequences
	last          bigint   NOT NULL,
	first_arrival bigint   NOT NULL,
	last_arrival  bigint   NOT NULL,
	kept_until    bigint   NOT NULL,
	entries       bigint   NOT NULL,
	late          bigint   NOT NULL,
	since         bigint   NOT NULL, -- microseconds since 1970, as all that is no sequence
	until         bigint   NOT NULL,
	PRIMARY KEY (class, instance, day, side)
);
-- write() asks whether there is any of such arrivals. Those of new entries there is not.
CREATE INDEX receipt_by_arrival ON {schema}.receipt (last_arrival);

-- A receipt for a range of arrivals, which a whole partition has, or somebody's own hand
-- has written. It is for entries whose retention ended by kept_until; for all of them, of
-- every class, where that is NULL, as in version 1.
ALTER TABLE {schema}.pruned ADD COLUMN kept_until bigint;
CREATE INDEX pruned_by_arrival ON {schema}.pruned (last);

-- Partitions that have expired and are detached, but not counted and dropped yet.
CREATE TABLE {schema}.dropping (
	name  text   COLLATE "C" PRIMARY KEY,
	class text   COLLATE "C" NOT NULL,
	rule  text   NOT NULL,
	since bigint NOT NULL
);

-- is_held says whether a hold selects an entry that comes. It may say so of a few more,
-- where a text has bytes that PostgreSQL cannot store; they are asked again before they
-- are deleted.
CREATE FUNCTION {schema}.is_held(document json, stamped_id text, stamped_slug text, arrival bigint) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (SELECT FROM {schema}.hold h WHERE
		(h.first IS NULL OR arrival >= h.first) AND (h.before IS NULL OR arrival < h.before)
		AND (h.organization IS NULL OR h.organization IN (document->>'organization_id', document->>'organization_slug')
			OR h.stamped = stamped_id AND coalesce(document->>'organization_id', '') = ''
			OR h.stamped = stamped_slug AND coalesce(document->>'organization_slug', '') = '')
		AND (h.actor IS NULL OR h.actor IN (document#>>'{actor,user_id}', document#>>'{actor,email}', document#>>'{actor,token_hash}',
			document#>>'{actor,oauth_app_id}', document#>>'{actor,asserted_user_id}')))
$$;

-- forget puts ranges into gone and merges them with those that they touch. Only one does
-- so at a time, who prunes.
CREATE FUNCTION {schema}.forget(instances text[], firsts bigint[], lasts bigint[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n    integer;
	f    bigint;
	l    bigint;
	have record;
BEGIN
	FOR n IN 1 .. coalesce(array_length(instances, 1), 0) LOOP
		f := firsts[n];
		l := lasts[n];
		SELECT g.first, g.last INTO have FROM {schema}.gone g
		WHERE g.instance = instances[n] AND g.first <= f ORDER BY g.first DESC LIMIT 1;
		IF FOUND AND have.last >= f - 1 THEN
			CONTINUE WHEN have.last >= l;
			f := have.first;
		END IF;
		SELECT greatest(l, max(g.last)) INTO l FROM {schema}.gone g
		WHERE g.instance = instances[n] AND g.first > f AND g.first - 1 <= l;
		DELETE FROM {schema}.gone g WHERE g.instance = instances[n] AND g.first > f AND g.last <= l;
		INSERT INTO {schema}.gone AS g VALUES (instances[n], f, l)
		ON CONFLICT (instance, first) DO UPDATE SET last = greatest(g.last, excluded.last);
	END LOOP;
END
$$;

-- merge changes the rows that are there: the document where the revision is a higher one,
-- and the stamp by the rule that holds for all of them. The one that keeps longer counts
-- as a whole, of two that keep equally long the newer; an organization that is known
-- stays; and what is proven stays so. A stamp alone has no revision and no sequence. It
-- returns how many rows it found.
CREATE FUNCTION {schema}.merge(
	writer text, of smallint,
	ids text[], revisions bigint[], timestamps bigint[], instances text[], sequences bigint[],
	organizations text[], projects text[], marked text[], documents text[], raws bytea[], sizes integer[],
	classes text[], keeps bigint[], plans text[], memberships text[], stamped_ids text[], stamped_slugs text[], pendings boolean[],
	earliest bigint, latest bigint
) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
	found bigint;
BEGIN
	WITH u AS MATERIALIZED (
		SELECT * FROM unnest(ids, revisions, timestamps, instances, sequences, organizations, projects, marked, documents, raws, sizes,
			classes, keeps, plans, memberships, stamped_ids, stamped_slugs, pendings) WITH ORDINALITY
			AS u(id, revision, at, instance, sequence, organization, project, marked, document, raw, size,
				class, keep, plan, membership, sid, slug, pending, n)
	-- Locked in one order, so that two who do so never wait for each other for ever.
	), old AS MATERIALIZED (
		SELECT u.n, e.timestamp, e.id, e.class, e.instance, e.sequence, e.keep_until, e.plan, e.membership, e.stamped_id, e.stamped_slug,
			e.organization_slug, e.pending,
			coalesce(e.size, octet_length(e.raw), octet_length(e.document::text)) AS size,
			coalesce(u.revision > e.revision AND e.redactions IS NULL, false) AS higher,
			u.keep IS NOT NULL AND (e.keep_until IS NULL OR u.keep >= e.keep_until) AS longer,
			(u.sid IS NOT NULL OR u.slug IS NOT NULL) AND (e.stamped_id IS NULL OR u.sid IS NULL OR e.stamped_id = u.sid)
				AND (e.stamped_slug IS NULL OR u.slug IS NULL OR e.stamped_slug = u.slug) AS same
		FROM u JOIN {schema}.entry e ON e.timestamp = u.at AND e.id = u.id
		WHERE e.timestamp BETWEEN earliest AND latest
		ORDER BY e.timestamp, e.id FOR UPDATE OF e
	), m AS MATERIALIZED (
		SELECT old.n, old.timestamp, old.id, old.class AS was, old.instance, old.sequence, old.higher,
			old.keep_until IS NULL AS untagged, old.size AS had,
			CASE WHEN old.longer THEN u.class ELSE old.class END AS class,
			CASE WHEN old.longer THEN u.keep ELSE old.keep_until END AS keep_until,
			CASE WHEN old.longer THEN u.plan ELSE old.plan END AS plan,
			CASE WHEN 'proven' IN (old.membership, u.membership) THEN 'proven' ELSE coalesce(u.membership, old.membership) END AS membership,
			CASE WHEN old.same THEN coalesce(old.stamped_id, u.sid) ELSE old.stamped_id END AS stamped_id,
			CASE WHEN old.same THEN coalesce(old.stamped_slug, u.slug) ELSE old.stamped_slug END AS stamped_slug,
			coalesce(CASE WHEN old.higher THEN u.organization ELSE old.organization_slug END,
				old.stamped_slug, CASE WHEN old.same THEN u.slug END) AS organization_slug,
			coalesce(u.pending, old.pending) AS pending,
			CASE WHEN old.higher THEN u.size ELSE old.size END AS size,
			(old.keep_until, old.plan, old.membership, old.stamped_id, old.stamped_slug, old.organization_slug, old.pending) AS stamp
		FROM old JOIN u ON u.n = old.n
	), new AS (
		UPDATE {schema}.entry e SET
			revision = CASE WHEN m.higher THEN u.revision ELSE e.revision END,
			instance = CASE WHEN m.higher THEN u.instance ELSE e.instance END,
			sequence = CASE WHEN m.higher THEN u.sequence ELSE e.sequence END,
			project_ref = CASE WHEN m.higher THEN u.project ELSE e.project_ref END,
			marks = CASE WHEN m.higher THEN u.marked::bigint[] ELSE e.marks END,
			document = CASE WHEN m.higher THEN u.document::json ELSE e.document END,
			raw = CASE WHEN m.higher THEN u.raw ELSE e.raw END,
			size = m.size, organization_slug = m.organization_slug,
			class = m.class, keep_until = m.keep_until, plan = m.plan, membership = m.membership,
			stamped_id = m.stamped_id, stamped_slug = m.stamped_slug, pending = m.pending
		FROM m JOIN u ON u.n = m.n
		WHERE e.timestamp BETWEEN earliest AND latest AND e.timestamp = m.timestamp AND e.id = m.id AND e.class = m.was
		AND (m.higher OR m.class <> m.was OR m.stamp IS DISTINCT FROM
			(m.keep_until, m.plan, m.membership, m.stamped_id, m.stamped_slug, m.organization_slug, m.pending))
	), without AS (
		INSERT INTO {schema}.gone AS g (instance, first, last)
		SELECT s.instance, lower(r), upper(r) - 1 FROM (
			SELECT CASE WHEN m.higher THEN m.instance ELSE u.instance END AS instance,
				range_agg(int8range(CASE WHEN m.higher THEN m.sequence ELSE u.sequence END,
					CASE WHEN m.higher THEN m.sequence ELSE u.sequence END, '[]')) AS ranges
			FROM m JOIN u ON u.n = m.n
			WHERE u.sequence IS NOT NULL AND (u.instance, u.sequence) <> (m.instance, m.sequence)
			GROUP BY 1
		) s, unnest(s.ranges) AS r
		ORDER BY 1, 2
		ON CONFLICT (instance, first) DO UPDATE SET last = greatest(g.last, excluded.last)
	), counted AS (
	INSERT INTO {schema}.total AS t (class, instance, side, entries, bytes)
	SELECT d.class, writer, of, sum(d.entries), sum(d.bytes) FROM (
		SELECT CASE WHEN m.untagged THEN '' ELSE m.was END AS class, -1 AS entries, -m.had::bigint AS bytes FROM m
		UNION ALL
		SELECT CASE WHEN m.keep_until IS NULL THEN '' ELSE m.class END, 1, m.size FROM m
	) d GROUP BY d.class HAVING sum(d.entries) <> 0 OR sum(d.bytes) <> 0 ORDER BY d.class
	ON CONFLICT (class, instance, side) DO UPDATE SET entries = t.entries + excluded.entries, bytes = t.bytes + excluded.bytes
	)
	SELECT count(*) INTO found FROM m;
	RETURN found;
END
$$;

-- restamp puts stamps on rows that are there, in the transaction of the caller. They are
-- each there once.
CREATE FUNCTION {schema}.restamp(
	ids text[], timestamps bigint[],
	classes text[], keeps bigint[], plans text[], memberships text[], stamped_ids text[], stamped_slugs text[], pendings boolean[]
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	earliest bigint;
	latest   bigint;
BEGIN
	IF current_setting('synchronous_commit') = 'off' THEN
		PERFORM set_config('synchronous_commit', 'on', true);
	END IF;
	SELECT min(t), max(t) INTO earliest, latest FROM unnest(timestamps) AS t;
	PERFORM {schema}.merge('', 2::smallint, ids, '{}', timestamps, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}',
		classes, keeps, plans, memberships, stamped_ids, stamped_slugs, pendings, earliest, latest);
END
$$;

-- write_stamped stores a batch with its stamps, in the transaction of the caller. It has
-- each entry once, in its highest revision; the sequences of the others are in
-- replaced_sequences. An entry without a stamp has NULL in keeps and pendings. What time
-- it is say the caller and the server, and the earlier counts.
--
-- With it a role can write that may not touch the tables: it runs as its owner. Plans are
-- made anew each time, with the bounds of the batch: one for any bounds would look into
-- every partition.
CREATE FUNCTION {schema}.write_stamped(
	ids text[], revisions bigint[], timestamps bigint[], instances text[], sequences bigint[],
	organizations text[], projects text[], marked text[], documents text[], raws bytea[], sizes integer[],
	classes text[], keeps bigint[], plans text[], memberships text[], stamped_ids text[], stamped_slugs text[], pendings boolean[],
	replaced_instances text[], replaced_sequences bigint[],
	received_instances text[], received_firsts bigint[], received_lasts bigint[], clock bigint
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
SET timezone = 'UTC'
AS $$
DECLARE
	earliest bigint;
	latest   bigint;
	ends     bigint; -- the first of the retentions
	known    bigint[];
	refused  bigint[];
	wanted   bigint := coalesce(array_length(ids, 1), 0);
	inserted bigint;
	n        integer;
	f        bigint;
	l        bigint;
	have     record;
BEGIN
	-- What was acknowledged is on disk, whatever the database's default is.
	IF current_setting('synchronous_commit') = 'off' THEN
		PERFORM set_config('synchronous_commit', 'on', true);
	END IF;
	-- Two writers of one buffer take turns, and those of others pass. In order, so that
	-- none waits for the other for ever.
	FOR have IN SELECT DISTINCT i FROM unnest(received_instances) AS i ORDER BY i LOOP
		PERFORM pg_advisory_xact_lock(hashtextextended('caddy_audit ' || {literal} || ' ' || have.i, 0));
	END LOOP;
	clock := least(clock, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);

	SELECT min(u.t), max(u.t), min(u.k) INTO earliest, latest, ends FROM unnest(timestamps, keeps) AS u(t, k);
	SELECT array_agg(u.n) INTO known
	FROM unnest(ids, timestamps) WITH ORDINALITY AS u(id, at, n)
	JOIN {schema}.entry e ON e.timestamp = u.at AND e.id = u.id
	WHERE e.timestamp BETWEEN earliest AND latest;

	IF known IS NOT NULL AND array_length(known, 1) > {schema}.merge(received_instances[1], 0::smallint, ids, revisions, timestamps, instances, sequences,
			organizations, projects, marked, documents, raws, sizes,
			classes, keeps, plans, memberships, stamped_ids, stamped_slugs, pendings, earliest, latest)
	THEN
		RAISE EXCEPTION 'one of these entries has just expired' USING ERRCODE = '40001';
	END IF;

	-- What has expired is not taken: it is gone, and a receipt says so. What comes for the
	-- first time is taken in spite of that if a hold selects it, or if it is still being
	-- asked about.
	IF ends <= clock
		OR EXISTS (SELECT FROM {schema}.receipt r WHERE r.last_arrival >= earliest AND r.first_arrival <= latest)
		OR EXISTS (SELECT FROM {schema}.pruned p WHERE p.last >= earliest AND p.first <= latest)
	THEN
		-- A hold that is being set is waited for.
		PERFORM pg_advisory_xact_lock_shared(hashtextextended('caddy_audit ' || {literal} || ' hold', 0));
		SELECT array_agg(u.n) INTO refused
		FROM unnest(timestamps, instances, sequences, documents, classes, keeps, stamped_ids, stamped_slugs, pendings) WITH ORDINALITY
			AS u(at, instance, sequence, document, class, keep, sid, slug, pending, n)
		WHERE (known IS NULL OR NOT u.n = ANY (known))
		AND (
			u.keep <= clock
			OR EXISTS (SELECT FROM {schema}.receipt r WHERE r.class = coalesce(u.class, 'default')
				AND u.at BETWEEN r.first_arrival AND r.last_arrival AND (u.keep IS NULL OR r.kept_until >= u.keep))
			OR EXISTS (SELECT FROM {schema}.pruned p WHERE u.at BETWEEN p.first AND p.last AND (p.kept_until IS NULL
				OR p.class = coalesce(u.class, 'default') AND (u.keep IS NULL OR p.kept_until >= u.keep)))
			OR u.keep IS NULL AND coalesce((SELECT g.last FROM {schema}.gone g
				WHERE g.instance = u.instance AND g.first <= u.sequence ORDER BY g.first DESC LIMIT 1) >= u.sequence, false)
		) AND (
			coalesce((SELECT r.last FROM {schema}.received r
				WHERE r.instance = u.instance AND r.first <= u.sequence ORDER BY r.first DESC LIMIT 1) >= u.sequence, false)
			OR u.keep IS NULL
			OR NOT u.pending AND NOT {schema}.is_held(u.document::json, u.sid, u.slug, u.at)
		);
	END IF;

	IF refused IS NOT NULL THEN
		WITH late AS MATERIALIZED (
			SELECT coalesce(u.class, 'default') AS class, u.instance, u.sequence, u.at, coalesce(u.keep, u.at) AS keep
			FROM unnest(timestamps, instances, sequences, classes, keeps) WITH ORDINALITY AS u(at, instance, sequence, class, keep, n)
			-- Of what was received before it is known where it is, or that it is lost.
			WHERE u.n = ANY (refused) AND NOT coalesce((SELECT r.last FROM {schema}.received r
				WHERE r.instance = u.instance AND r.first <= u.sequence ORDER BY r.first DESC LIMIT 1) >= u.sequence, false)
		), without AS (
			INSERT INTO {schema}.gone AS g (instance, first, last)
			SELECT s.instance, lower(r), upper(r) - 1
			FROM (SELECT late.instance, range_agg(int8range(late.sequence, late.sequence, '[]')) AS ranges FROM late GROUP BY 1) s, unnest(s.ranges) AS r
			ORDER BY 1, 2
			ON CONFLICT (instance, first) DO UPDATE SET last = greatest(g.last, excluded.last)
		)
		INSERT INTO {schema}.receipt AS r (class, instance, day, side, rule, first, last, first_arrival, last_arrival, kept_until, entries, late, since, until)
		SELECT late.class, late.instance, to_timestamp(clock / 1e6)::date, 0, '', min(late.sequence), max(late.sequence),
			min(late.at), max(late.at), max(late.keep), count(*), count(*), clock, clock
		FROM late GROUP BY 1, 2 ORDER BY 1, 2
		ON CONFLICT (class, instance, day, side) DO UPDATE SET
			first = least(r.first, excluded.first), last = greatest(r.last, excluded.last),
			first_arrival = least(r.first_arrival, excluded.first_arrival), last_arrival = greatest(r.last_arrival, excluded.last_arrival),
			kept_until = greatest(r.kept_until, excluded.kept_until), entries = r.entries + excluded.entries, late = r.late + excluded.late,
			since = least(r.since, excluded.since), until = greatest(r.until, excluded.until);
	END IF;

	INSERT INTO {schema}.entry
		(id, revision, timestamp, instance, sequence, organization_slug, project_ref, marks, document, raw, size,
		class, keep_until, plan, membership, stamped_id, stamped_slug, pending)
	SELECT u.id, u.revision, u.at, u.instance, u.sequence, coalesce(u.organization, u.slug), u.project, u.marked::bigint[], u.document::json, u.raw, u.size,
		coalesce(u.class, 'default'), u.keep, u.plan, u.membership, u.sid, u.slug, coalesce(u.pending, false)
	FROM unnest(ids, revisions, timestamps, instances, sequences, organizations, projects, marked, documents, raws, sizes,
		classes, keeps, plans, memberships, stamped_ids, stamped_slugs, pendings) WITH ORDINALITY
		AS u(id, revision, at, instance, sequence, organization, project, marked, document, raw, size,
			class, keep, plan, membership, sid, slug, pending, n)
	WHERE (known IS NULL OR NOT u.n = ANY (known)) AND (refused IS NULL OR NOT u.n = ANY (refused))
	ON CONFLICT (timestamp, id, class) DO NOTHING;
	GET DIAGNOSTICS inserted = ROW_COUNT;
	IF inserted < wanted - coalesce(array_length(known, 1), 0) - coalesce(array_length(refused, 1), 0) THEN
		RAISE EXCEPTION 'another writer has just stored one of these entries' USING ERRCODE = '40001';
	END IF;

	IF inserted > 0 THEN
		INSERT INTO {schema}.total AS t (class, instance, side, entries, bytes)
		SELECT CASE WHEN u.keep IS NULL THEN '' ELSE u.class END, received_instances[1], 0, count(*), sum(u.size)
		FROM unnest(classes, keeps, sizes) WITH ORDINALITY AS u(class, keep, size, n)
		WHERE (known IS NULL OR NOT u.n = ANY (known)) AND (refused IS NULL OR NOT u.n = ANY (refused))
		GROUP BY 1 ORDER BY 1
		ON CONFLICT (class, instance, side) DO UPDATE SET entries = t.entries + excluded.entries, bytes = t.bytes + excluded.bytes;
	END IF;

	IF array_length(replaced_sequences, 1) > 0 THEN
		INSERT INTO {schema}.gone AS g (instance, first, last)
		SELECT s.instance, lower(r), upper(r) - 1
		FROM (SELECT u.instance, range_agg(int8range(u.sequence, u.sequence, '[]')) AS ranges
			FROM unnest(replaced_instances, replaced_sequences) AS u(instance, sequence) GROUP BY 1) s, unnest(s.ranges) AS r
		ORDER BY 1, 2
		ON CONFLICT (instance, first) DO UPDATE SET last = greatest(g.last, excluded.last);
	END IF;

	-- Ranges neither overlap nor touch, so only the one that begins at or before and
	-- those that begin inside or right behind can be concerned.
	FOR n IN 1 .. coalesce(array_length(received_instances, 1), 0) LOOP
		f := received_firsts[n];
		l := received_lasts[n];
		SELECT r.first, r.last INTO have FROM {schema}.received r
		WHERE r.instance = received_instances[n] AND r.first <= f ORDER BY r.first DESC LIMIT 1;
		IF FOUND AND have.last >= f - 1 THEN
			CONTINUE WHEN have.last >= l; -- all of it was received before
			f := have.first;
		END IF;
		SELECT greatest(l, max(r.last)) INTO l FROM {schema}.received r
		WHERE r.instance = received_instances[n] AND r.first > f AND r.first - 1 <= l;
		DELETE FROM {schema}.received r WHERE r.instance = received_instances[n] AND r.first > f AND r.first - 1 <= l;
		INSERT INTO {schema}.received AS r VALUES (received_instances[n], f, l)
		ON CONFLICT (instance, first) DO UPDATE SET last = excluded.last;
	END LOOP;
END
$$;

-- write is that of version 1, for its sidecars while they are being replaced: a batch
-- without stamps. The lower revisions that a sidecar of version 1 has left out of its
-- batch are in no array: what the ranges have beside the entries is gone.
CREATE OR REPLACE FUNCTION {schema}.write(
	ids text[], revisions bigint[], timestamps bigint[], instances text[], sequences bigint[],
	organizations text[], projects text[], marked text[], documents text[], raws bytea[],
	received_instances text[], received_firsts bigint[], received_lasts bigint[]
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	sizes integer[];
	none  text[];
	never bigint[];
	no    boolean[];
	owners   text[];
	replaced bigint[];
BEGIN
	SELECT array_agg(coalesce(octet_length(u.raw), octet_length(u.document)) ORDER BY u.n), array_agg(NULL::text), array_agg(NULL::bigint), array_agg(NULL::boolean)
	INTO sizes, none, never, no
	FROM unnest(documents, raws) WITH ORDINALITY AS u(document, raw, n);
	SELECT array_agg(r.instance), array_agg(s) INTO owners, replaced
	FROM unnest(received_instances, received_firsts, received_lasts) AS r(instance, first, last), generate_series(r.first, r.last) AS s
	WHERE (r.instance, s) NOT IN (SELECT u.instance, u.sequence FROM unnest(instances, sequences) AS u(instance, sequence));
	PERFORM {schema}.write_stamped(ids, revisions, timestamps, instances, sequences, organizations, projects, marked, documents, raws, sizes,
		none, never, none, none, none, none, no, owners, replaced,
		received_instances, received_firsts, received_lasts, 9223372036854775807);
END
$$;

-- prepare_class makes the partition of a class, and in it those of months, the first days
-- of which are given, and returns those that it could not make: a class or a month of
-- which there are rows in the default partition stays there, and one whose lock is not to
-- be had is tried another time. What is far away belongs into the default partition,
-- whoever asks.
CREATE FUNCTION {schema}.prepare_class(of text, months date[]) RETURNS date[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET lock_timeout = '2s'
AS $$
DECLARE
	-- A class's name may be anything of a-z0-9_-, so a colon keeps the parts apart.
	parent  text := CASE of WHEN 'default' THEN 'entry_default' ELSE 'entry:' || of END;
	mark    text := CASE of WHEN 'default' THEN '_' ELSE ':' END;
	month   date;
	name    text;
	other   date[] := '{}';
BEGIN
	IF NOT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = {literal}::regnamespace AND c.relname = parent) THEN
		IF of !~ '^[a-z0-9][a-z0-9_-]{0,31}$' OR (SELECT count(*) FROM pg_inherits i WHERE i.inhparent = '{schema}.entry'::regclass) > 128 THEN
			RETURN months;
		END IF;
		BEGIN
			PERFORM pg_advisory_xact_lock(hashtextextended('caddy_audit ' || {literal} || ' schema', 0));
			IF NOT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = {literal}::regnamespace AND c.relname = parent) THEN
				EXECUTE format('CREATE TABLE {schema}.%I (LIKE {schema}.entry INCLUDING ALL) PARTITION BY RANGE (timestamp)', parent);
				EXECUTE format('CREATE TABLE {schema}.%I PARTITION OF {schema}.%I DEFAULT', parent || mark || 'other', parent);
				EXECUTE format('ALTER TABLE {schema}.entry ATTACH PARTITION {schema}.%I FOR VALUES IN (%L)', parent, of);
			END IF;
		EXCEPTION WHEN lock_not_available OR check_violation THEN
			RETURN months;
		END;
	END IF;
	FOREACH month IN ARRAY months LOOP
		name := parent || mark || to_char(month, 'YYYY_MM');
		CONTINUE WHEN EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = {literal}::regnamespace AND c.relname = name);
		IF month <> date_trunc('month', month) OR month < '2020-01-01' OR month > now() + interval '3 months' THEN
			other := other || month;
			CONTINUE;
		END IF;
		BEGIN
			PERFORM pg_advisory_xact_lock(hashtextextended('caddy_audit ' || {literal} || ' schema', 0));
			CONTINUE WHEN EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = {literal}::regnamespace AND c.relname = name);
			-- To attach one that is made beside locks less than to make it in place:
			-- writers and readers of the other partitions go on.
			EXECUTE format('CREATE TABLE {schema}.%I (LIKE {schema}.%I INCLUDING ALL)', name, parent);
			EXECUTE format('ALTER TABLE {schema}.%I ATTACH PARTITION {schema}.%I FOR VALUES FROM (%s) TO (%s)', parent, name,
				{schema}.microseconds(month::timestamptz), {schema}.microseconds((month + interval '1 month')::timestamptz));
		EXCEPTION WHEN lock_not_available OR check_violation THEN
			other := other || month;
		END;
	END LOOP;
	RETURN other;
END
$$;

-- Everybody may call a new function, unless it is said. Who could write goes on, and who
-- could read too.
DO $$
DECLARE
	role  record;
	named text;
BEGIN
	FOREACH named IN ARRAY ARRAY['write_stamped', 'restamp', 'prepare_class', 'merge', 'forget', 'is_held'] LOOP
		EXECUTE format('REVOKE ALL ON FUNCTION {schema}.%I FROM PUBLIC', named);
	END LOOP;
	FOR role IN SELECT DISTINCT a.grantee FROM pg_proc p, aclexplode(p.proacl) a
		WHERE p.pronamespace = {literal}::regnamespace AND p.proname = 'write' AND a.grantee NOT IN (0, p.proowner)
	LOOP
		EXECUTE format('GRANT EXECUTE ON FUNCTION {schema}.write_stamped, {schema}.restamp, {schema}.prepare_class TO %s', role.grantee::regrole);
	END LOOP;
	FOR role IN SELECT DISTINCT a.grantee FROM pg_class c, aclexplode(c.relacl) a
		WHERE c.oid = '{schema}.entry'::regclass AND a.privilege_type = 'SELECT' AND a.grantee NOT IN (0, c.relowner)
	LOOP
		EXECUTE format('GRANT SELECT ON {schema}.gone, {schema}.total, {schema}.hold, {schema}.receipt, {schema}.dropping TO %s', role.grantee::regrole);
		EXECUTE format('GRANT EXECUTE ON FUNCTION {schema}.is_held TO %s', role.grantee::regrole);
	END LOOP;
END
$$;

INSERT INTO {schema}.schema_version (version) VALUES (2);
