-- Version 1 of the schema. {schema} is its quoted name.

CREATE TABLE {schema}.schema_version (
	version integer     NOT NULL,
	since   timestamptz NOT NULL DEFAULT now()
);

-- An entry has one row, and its highest revision has it. The columns beside the
-- document exist to find it; the document is what readers get. It is json and not
-- jsonb: a document comes back as it was written, and export is three times as fast.
--
-- class is the retention class; all are in 'default' until there are others. Its
-- partitions are months of arrival, so that a month that has expired is dropped.
-- Arrival is the same in all revisions, so a row can be found without its class.
--
-- What is not captured stands in columns of its own, as redactions does; retention and
-- hold will be added by a later version. write() names each column that a higher revision
-- may change, so it cannot touch those.
CREATE TABLE {schema}.entry (
	timestamp         bigint NOT NULL, -- arrival, microseconds since 1970
	revision          bigint NOT NULL,
	sequence          bigint NOT NULL, -- this revision's number in its buffer
	class             text   COLLATE "C" NOT NULL DEFAULT 'default',
	id                text   COLLATE "C" NOT NULL,
	instance          text   COLLATE "C" NOT NULL, -- and the buffer
	organization_slug text   COLLATE "C",
	project_ref       text   COLLATE "C",
	marks             bigint[],        -- of who acts: tokens, session, user, ip
	document          json   NOT NULL, -- the whole entry
	raw               bytea,           -- its bytes, where PostgreSQL's json cannot have them
	redactions        json,            -- what was erased from it; then no revision changes it, which would bring it back
	PRIMARY KEY (timestamp, id, class)
) PARTITION BY LIST (class);
CREATE INDEX entry_by_organization ON {schema}.entry (organization_slug, timestamp, id) WHERE organization_slug IS NOT NULL;
CREATE INDEX entry_by_project ON {schema}.entry (project_ref, timestamp, id) WHERE project_ref IS NOT NULL;
CREATE INDEX entry_by_mark ON {schema}.entry USING gin (marks);

-- No arrival and no class is refused for want of a partition.
CREATE TABLE {schema}.entry_default PARTITION OF {schema}.entry FOR VALUES IN ('default') PARTITION BY RANGE (timestamp);
CREATE TABLE {schema}.entry_default_other PARTITION OF {schema}.entry_default DEFAULT;
CREATE TABLE {schema}.entry_other PARTITION OF {schema}.entry DEFAULT;

-- The sequences that ever arrived, as merged ranges, because the sequence of a
-- replaced revision is in no row. Pruning leaves it alone.
CREATE TABLE {schema}.received (
	instance text   COLLATE "C" NOT NULL,
	first    bigint NOT NULL,
	last     bigint NOT NULL,
	PRIMARY KEY (instance, first)
) WITH (fillfactor = 50);

-- The receipts of pruning: entries of the class that arrived from first to last have
-- expired and are gone. write() takes no entry of such a time, so that nothing comes back,
-- neither on a repeat nor in a later revision. One that comes for the first time so late
-- has expired as well: its sequence is in received, and the receipt says what became of it.
CREATE TABLE {schema}.pruned (
	class  text   COLLATE "C" NOT NULL,
	first  bigint NOT NULL,
	last   bigint NOT NULL,
	pruned timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (class, first, last)
);

-- microseconds makes an arrival of a time, for queries by people.
CREATE FUNCTION {schema}.microseconds(at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS
$$ SELECT (extract(epoch FROM at) * 1000000)::bigint $$;

-- write stores a batch, in the transaction of the caller. It has each entry once. With
-- it a role can write that may not touch the tables: it runs as its owner.
--
-- Plans are made anew each time, with the bounds of the batch: one for any bounds would
-- look into every partition.
CREATE FUNCTION {schema}.write(
	ids text[], revisions bigint[], timestamps bigint[], instances text[], sequences bigint[],
	organizations text[], projects text[], marked text[], documents text[], raws bytea[],
	received_instances text[], received_firsts bigint[], received_lasts bigint[]
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
	earliest bigint;
	latest   bigint;
	known    bigint[];
	expired  bigint[];
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

	SELECT min(t), max(t) INTO earliest, latest FROM unnest(timestamps) AS t;
	SELECT array_agg(u.n) INTO known
	FROM unnest(ids, timestamps) WITH ORDINALITY AS u(id, at, n)
	JOIN {schema}.entry e ON e.timestamp = u.at AND e.id = u.id
	WHERE e.timestamp BETWEEN earliest AND latest;

	IF known IS NOT NULL THEN
		UPDATE {schema}.entry e SET
			revision = u.revision, instance = u.instance, sequence = u.sequence,
			organization_slug = u.organization, project_ref = u.project,
			marks = u.marked::bigint[], document = u.document::json, raw = u.raw
		FROM unnest(ids, revisions, timestamps, instances, sequences, organizations, projects, marked, documents, raws)
			AS u(id, revision, at, instance, sequence, organization, project, marked, document, raw)
		WHERE e.timestamp BETWEEN earliest AND latest AND e.timestamp = u.at AND e.id = u.id AND u.revision > e.revision
		AND e.redactions IS NULL;
	END IF;

	SELECT array_agg(u.n) INTO expired
	FROM unnest(timestamps) WITH ORDINALITY AS u(at, n)
	WHERE EXISTS (SELECT FROM {schema}.pruned p WHERE p.class = 'default' AND u.at BETWEEN p.first AND p.last);

	-- A conflict is another writer's row, made since the look above.
	INSERT INTO {schema}.entry AS e
		(id, revision, timestamp, instance, sequence, organization_slug, project_ref, marks, document, raw)
	SELECT u.id, u.revision, u.at, u.instance, u.sequence, u.organization, u.project, u.marked::bigint[], u.document::json, u.raw
	FROM unnest(ids, revisions, timestamps, instances, sequences, organizations, projects, marked, documents, raws) WITH ORDINALITY
		AS u(id, revision, at, instance, sequence, organization, project, marked, document, raw, n)
	WHERE (known IS NULL OR NOT u.n = ANY (known)) AND (expired IS NULL OR NOT u.n = ANY (expired))
	ON CONFLICT (timestamp, id, class) DO UPDATE SET
		revision = excluded.revision, instance = excluded.instance, sequence = excluded.sequence,
		organization_slug = excluded.organization_slug, project_ref = excluded.project_ref,
		marks = excluded.marks, document = excluded.document, raw = excluded.raw
	WHERE excluded.revision > e.revision AND e.redactions IS NULL;

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

-- prepare makes the partitions of months, the first days of which are given, and
-- returns those that it could not make: a month of which there are rows in the default
-- partition stays there, and one whose lock is not to be had is tried another time. What
-- is far away belongs into the default partition, whoever asks.
CREATE FUNCTION {schema}.prepare(months date[]) RETURNS date[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET lock_timeout = '2s'
AS $$
DECLARE
	month date;
	name  text;
	other date[] := '{}';
BEGIN
	FOREACH month IN ARRAY months LOOP
		name := 'entry_default_' || to_char(month, 'YYYY_MM');
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
			EXECUTE format('CREATE TABLE {schema}.%I (LIKE {schema}.entry_default INCLUDING ALL)', name);
			EXECUTE format('ALTER TABLE {schema}.entry_default ATTACH PARTITION {schema}.%I FOR VALUES FROM (%s) TO (%s)', name,
				{schema}.microseconds(month::timestamptz), {schema}.microseconds((month + interval '1 month')::timestamptz));
		EXCEPTION WHEN lock_not_available OR check_violation THEN
			other := other || month;
		END;
	END LOOP;
	RETURN other;
END
$$;

-- Everybody may call a new function, unless it is said.
REVOKE ALL ON FUNCTION {schema}.write(text[], bigint[], bigint[], text[], bigint[], text[], text[], text[], text[], bytea[], text[], bigint[], bigint[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION {schema}.prepare(date[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION {schema}.microseconds(timestamptz) FROM PUBLIC;

INSERT INTO {schema}.schema_version (version) VALUES (1);
