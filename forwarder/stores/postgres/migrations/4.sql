-- Version 4 of the schema: a batch is inserted without copies of its arrays. {schema} is its
-- quoted name. No row and no column changes, and no grant.

-- write_entries stores a batch with its stamps and Briefs, in the transaction of the caller.
-- It has each entry once, in its highest revision; the sequences of the others are in
-- replaced_sequences. An entry without a stamp has NULL in keeps and pendings. owners are
-- those by what was captured; slugs are those of the owners that are known by an id, each
-- pair once, as far as they may be new. What time it is say the caller and the server, and the
-- earlier counts.
--
-- With it a role can write that may not touch the tables: it runs as its owner. Plans are
-- made anew each time, with the bounds of the batch: one for any bounds would look into
-- every partition. But for the one that inserts.
CREATE OR REPLACE FUNCTION {schema}.write_entries(
	ids text[], revisions bigint[], timestamps bigint[], instances text[], sequences bigint[],
	organizations text[], projects text[], marked text[], documents text[], raws bytea[], sizes integer[],
	classes text[], keeps bigint[], plans text[], memberships text[], stamped_ids text[], stamped_slugs text[], pendings boolean[],
	replaced_instances text[], replaced_sequences bigint[],
	received_instances text[], received_firsts bigint[], received_lasts bigint[], clock bigint,
	owners text[], actors text[], emails text[], token_types text[], addresses bytea[],
	actions text[], methods text[], target_types text[], targets text[], outcomes text[], statuses integer[], events boolean[],
	slugs text[], slug_owners text[]
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
			classes, keeps, plans, memberships, stamped_ids, stamped_slugs, pendings,
			owners, actors, emails, token_types, addresses, actions, methods, target_types, targets, outcomes, statuses, events, earliest, latest)
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

	-- A plan for these very arrays would be made with several copies of all of them, which
	-- took 29 % of the server's time, and an INSERT looks into no partition. Beside each
	-- other in one row the arrays are read as they go by; as a table of their own they would
	-- all be copied first.
	SET LOCAL plan_cache_mode = force_generic_plan;
	INSERT INTO {schema}.entry
		(id, revision, timestamp, instance, sequence, organization_slug, project_ref, marks, document, raw, size,
		class, keep_until, plan, membership, stamped_id, stamped_slug, pending,
		owner, actor, email, token_type, address, action, method, target_type, target, outcome, status, event)
	SELECT u.id, u.revision, u.at, u.instance, u.sequence, coalesce(u.organization, u.slug), u.project, u.marked::bigint[], u.document::json, u.raw, u.size,
		coalesce(u.class, 'default'), u.keep, u.plan, u.membership, u.sid, u.slug, coalesce(u.pending, false),
		{schema}.owner_of(u.owner, u.sid, u.slug), u.actor, u.email, u.token_type, u.address, u.action, u.method, u.target_type, u.target, u.outcome, u.status, u.event
	FROM (
		SELECT unnest(ids) AS id, unnest(revisions) AS revision, unnest(timestamps) AS at, unnest(instances) AS instance,
			unnest(sequences) AS sequence, unnest(organizations) AS organization, unnest(projects) AS project, unnest(marked) AS marked,
			unnest(documents) AS document, unnest(raws) AS raw, unnest(sizes) AS size, unnest(classes) AS class, unnest(keeps) AS keep,
			unnest(plans) AS plan, unnest(memberships) AS membership, unnest(stamped_ids) AS sid, unnest(stamped_slugs) AS slug,
			unnest(pendings) AS pending, unnest(owners) AS owner, unnest(actors) AS actor, unnest(emails) AS email,
			unnest(token_types) AS token_type, unnest(addresses) AS address, unnest(actions) AS action, unnest(methods) AS method,
			unnest(target_types) AS target_type, unnest(targets) AS target, unnest(outcomes) AS outcome, unnest(statuses) AS status,
			unnest(events) AS event, generate_series(1, wanted) AS n
	) AS u
	WHERE (known IS NULL OR NOT u.n = ANY (known)) AND (refused IS NULL OR NOT u.n = ANY (refused))
	ON CONFLICT (timestamp, id, class) DO NOTHING;
	GET DIAGNOSTICS inserted = ROW_COUNT;
	SET LOCAL plan_cache_mode = force_custom_plan;
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

	-- The last one to be waited for, since writers of other buffers have it in common.
	INSERT INTO {schema}.named (slug, owner)
	SELECT u.slug, u.owner FROM unnest(slugs, slug_owners) AS u(slug, owner)
	WHERE NOT EXISTS (SELECT FROM {schema}.named s WHERE s.slug = u.slug AND s.owner = u.owner)
	ORDER BY 1, 2 ON CONFLICT DO NOTHING;
END
$$;

INSERT INTO {schema}.schema_version (version) VALUES (4);
