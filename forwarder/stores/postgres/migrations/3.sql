-- Version 3 of the schema: what an audit-log page is made of. {schema} is its quoted name.
--
-- Nobody writes or reads meanwhile: every row gets its new columns. Entries wait in their
-- buffers.
LOCK TABLE {schema}.entry IN ACCESS EXCLUSIVE MODE;

-- The Brief: what an entry is filtered and counted by, beside the document; its project is
-- project_ref. What is not known is NULL. A text has 128 bytes at most, and the hash of a
-- longer one in place of its end. Here a backslash is two, and a text that PostgreSQL
-- cannot have (U+0000) or that becomes too long by that is \b with its bytes in base64.
--
-- owner is whose the entry is, by what was captured and else by the stamp: id: or slug:
-- with the organization's, and empty where it is nobody's, since an index is not walked in
-- order by what is NULL. So is the action of an event that has none.
ALTER TABLE {schema}.entry
	ADD COLUMN owner       text COLLATE "C" NOT NULL DEFAULT '',
	ADD COLUMN actor       text COLLATE "C",
	ADD COLUMN email       text COLLATE "C",
	ADD COLUMN token_type  text COLLATE "C",
	ADD COLUMN address     bytea, -- 16 bytes, IPv4 mapped
	ADD COLUMN action      text COLLATE "C",
	ADD COLUMN method      text COLLATE "C",
	ADD COLUMN target_type text COLLATE "C",
	ADD COLUMN target      text COLLATE "C",
	ADD COLUMN outcome     text COLLATE "C",
	ADD COLUMN status      integer,
	ADD COLUMN event       boolean; -- true: of the sidecar itself

-- brief_bytes is a text as a column of the Brief has it, from its bytes.
CREATE FUNCTION {schema}.brief_bytes(raw bytea) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n integer := 93; -- what is left beside the hash
	s text;
BEGIN
	IF octet_length(raw) > 128 THEN
		WHILE n > 0 AND get_byte(raw, n) & 192 = 128 LOOP
			n := n - 1;
		END LOOP;
		raw := substring(raw FROM 1 FOR n) || '\xe280a6'::bytea || convert_to(left(encode(sha256(raw), 'hex'), 32), 'UTF8');
	END IF;
	IF position('\x00'::bytea IN raw) = 0 THEN
		s := replace(convert_from(raw, 'UTF8'), '\', '\\');
		IF octet_length(s) <= 173 THEN
			RETURN s;
		END IF;
	END IF;
	RETURN '\b' || translate(encode(raw, 'base64'), E'=\n', '');
END
$$;

-- brief_text is a document's text in a column of the Brief, NULL for the empty one.
CREATE FUNCTION {schema}.brief_text(s text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT CASE WHEN octet_length(s) <= 128 AND strpos(s, '\') = 0 THEN nullif(s, '') ELSE {schema}.brief_bytes(convert_to(s, 'UTF8')) END $$;

-- brief_stamped is the same of a stamp's text, in which U+0000 is \0 and a backslash two.
CREATE FUNCTION {schema}.brief_stamped(s text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT CASE WHEN octet_length(s) <= 128 AND strpos(s, '\') = 0 THEN s
	ELSE {schema}.brief_bytes(decode(replace(replace(s, '\\', '\134'), '\0', '\000'), 'escape')) END $$;

-- owner_of is whose an entry is: by what was captured, which is an owner already, and by
-- its stamp.
CREATE FUNCTION {schema}.owner_of(captured text, stamped_id text, stamped_slug text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT CASE WHEN starts_with(captured, 'id:') THEN captured WHEN stamped_id IS NOT NULL THEN 'id:' || {schema}.brief_stamped(stamped_id)
	ELSE coalesce(nullif(captured, ''), 'slug:' || {schema}.brief_stamped(stamped_slug), '') END $$;

-- brief_address is an address in 16 bytes, NULL if it is none.
CREATE FUNCTION {schema}.brief_address(s text) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF s ~ '^(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){3}$' THEN
		RETURN '\x00000000000000000000ffff'::bytea || substring(inet_send(s::inet) FROM 5);
	ELSIF s ~ '^[0-9a-fA-F:.]+:[0-9a-fA-F:.]*(%.+)?$' THEN
		RETURN substring(inet_send(split_part(s, '%', 1)::inet) FROM 5);
	END IF;
	RETURN NULL;
EXCEPTION WHEN data_exception THEN
	RETURN NULL;
END
$$;

-- object is a value of a document as an object, which is empty if it is none.
CREATE FUNCTION {schema}.object(value json) RETURNS json
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT CASE json_typeof(value) WHEN 'object' THEN value ELSE '{}' END $$;

-- brief is the Brief of a document, and its owner by what was captured. Of a row that has
-- raw it takes U+FFFD for what PostgreSQL cannot have.
CREATE FUNCTION {schema}.brief(document json) RETURNS TABLE (
	captured text, project_ref text, actor text, email text, token_type text, address bytea,
	action text, method text, target_type text, target text, outcome text, status integer, event boolean
) LANGUAGE sql STABLE PARALLEL SAFE ROWS 1 AS $$
	SELECT coalesce('id:' || {schema}.brief_text(d.organization_id), 'slug:' || {schema}.brief_text(d.organization_slug)),
		{schema}.brief_text(d.project_ref),
		{schema}.brief_text(coalesce(nullif(a.user_id, ''), nullif(a.oauth_app_id, ''), nullif(a.jwt_subject, ''), a.token_hash)),
		{schema}.brief_text(a.email), {schema}.brief_text(a.token_type), {schema}.brief_address(a.ip),
		coalesce({schema}.brief_text(CASE WHEN coalesce(c.code, '') <> '' THEN c.code WHEN c.method <> '' THEN c.method || ' ' || coalesce(c.route, '') END),
			CASE WHEN p.rule = 'sidecar' AND coalesce(c.method, '') = '' THEN '' END),
		{schema}.brief_text(c.method), {schema}.brief_text(t.type), {schema}.brief_text(t.id), {schema}.brief_text(d.outcome),
		CASE WHEN c.status ~ '^-?[1-9][0-9]{0,8}$' THEN c.status::integer END,
		nullif(coalesce(p.rule = 'sidecar' AND coalesce(c.method, '') = '', false), false)
	FROM json_to_record({schema}.object($1)) AS d(organization_id text, organization_slug text, project_ref text, action json, actor json, target json, outcome text, policy json),
		json_to_record({schema}.object(d.action)) AS c(code text, method text, route text, status text),
		json_to_record({schema}.object(d.actor)) AS a(user_id text, oauth_app_id text, jwt_subject text, token_hash text, email text, token_type text, ip text),
		json_to_record({schema}.object(d.target)) AS t(type text, id text),
		json_to_record({schema}.object(d.policy)) AS p(rule text)
$$;

-- A slug and the owners that are known by an id and have entries with it: by them the
-- entries of a slug are found. It may have some whose entries are gone.
CREATE TABLE {schema}.named (
	slug  text COLLATE "C" NOT NULL, -- as organization_slug
	owner text COLLATE "C" NOT NULL,
	PRIMARY KEY (slug, owner)
);

DROP INDEX {schema}.entry_by_organization, {schema}.entry_by_project;

UPDATE {schema}.entry e SET
	(owner, project_ref, actor, email, token_type, address, action, method, target_type, target, outcome, status, event) = (
		SELECT {schema}.owner_of(b.captured, e.stamped_id, e.stamped_slug), b.project_ref, b.actor, b.email, b.token_type, b.address,
			b.action, b.method, b.target_type, b.target, b.outcome, b.status, b.event
		FROM {schema}.brief(e.document) AS b);

INSERT INTO {schema}.named (slug, owner)
SELECT DISTINCT e.organization_slug, e.owner FROM {schema}.entry e WHERE starts_with(e.owner, 'id:') AND e.organization_slug IS NOT NULL;

-- A page walks one owner's entries in their order, and all that it filters and counts by
-- is in the index. An index's row must have no more than 2704 bytes, or PostgreSQL refuses
-- the entry; the longest possible has 2648: ten texts of 173 bytes at most, of which the
-- owner has a prefix, two of 400, and 12 of their lengths and paddings.
CREATE INDEX entry_by_owner ON {schema}.entry (owner, timestamp, id)
	INCLUDE (membership, actor, email, token_type, address, project_ref, action, method, target_type, target, outcome, status);
-- The sidecar's own events, which are few beside all others, and most of them heartbeats.
CREATE INDEX entry_by_event ON {schema}.entry (action, timestamp, id) INCLUDE (owner) WHERE event;
-- The last sign of life of each buffer.
CREATE INDEX entry_by_beat ON {schema}.entry (instance, timestamp, id) INCLUDE (action)
	WHERE event AND action IN ('audit.heartbeat', 'audit.started', 'audit.stopped');

-- What is erased from a document is erased from the columns as well.
CREATE FUNCTION {schema}.erased() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	b record;
BEGIN
	SELECT * INTO b FROM {schema}.brief(new.document);
	new.owner := {schema}.owner_of(b.captured, new.stamped_id, new.stamped_slug);
	IF octet_length(new.document->>'organization_slug') <= 200 THEN
		new.organization_slug := coalesce(replace(nullif(new.document->>'organization_slug', ''), '\', '\\'), new.stamped_slug);
	END IF;
	new.project_ref := b.project_ref;
	new.actor := b.actor;
	new.email := b.email;
	new.token_type := b.token_type;
	new.address := b.address;
	new.action := b.action;
	new.method := b.method;
	new.target_type := b.target_type;
	new.target := b.target;
	new.outcome := b.outcome;
	new.status := b.status;
	new.event := b.event;
	RETURN new;
END
$$;
CREATE TRIGGER erased BEFORE UPDATE OF redactions ON {schema}.entry FOR EACH ROW EXECUTE FUNCTION {schema}.erased();

-- merge changes the rows that are there: the document where the revision is a higher one,
-- and the stamp by the rule that holds for all of them. The one that keeps longer counts
-- as a whole, of two that keep equally long the newer; an organization that is known
-- stays; and what is proven stays so. A stamp alone has no revision and no sequence. It
-- returns how many rows it found.
DROP FUNCTION {schema}.merge;
CREATE FUNCTION {schema}.merge(
	writer text, of smallint,
	ids text[], revisions bigint[], timestamps bigint[], instances text[], sequences bigint[],
	organizations text[], projects text[], marked text[], documents text[], raws bytea[], sizes integer[],
	classes text[], keeps bigint[], plans text[], memberships text[], stamped_ids text[], stamped_slugs text[], pendings boolean[],
	owners text[], actors text[], emails text[], token_types text[], addresses bytea[],
	actions text[], methods text[], target_types text[], targets text[], outcomes text[], statuses integer[], events boolean[],
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
			classes, keeps, plans, memberships, stamped_ids, stamped_slugs, pendings,
			owners, actors, emails, token_types, addresses, actions, methods, target_types, targets, outcomes, statuses, events) WITH ORDINALITY
			AS u(id, revision, at, instance, sequence, organization, project, marked, document, raw, size,
				class, keep, plan, membership, sid, slug, pending,
				owner, actor, email, token_type, address, action, method, target_type, target, outcome, status, event, n)
	-- Locked in one order, so that two who do so never wait for each other for ever.
	), old AS MATERIALIZED (
		SELECT u.n, e.timestamp, e.id, e.class, e.instance, e.sequence, e.keep_until, e.plan, e.membership, e.stamped_id, e.stamped_slug,
			e.organization_slug, e.owner, e.pending,
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
			-- An owner that is there is a captured one, or what the stamp makes of it again.
			{schema}.owner_of(CASE WHEN old.higher THEN u.owner ELSE old.owner END,
				coalesce(old.stamped_id, CASE WHEN old.same THEN u.sid END),
				coalesce(old.stamped_slug, CASE WHEN old.same THEN u.slug END)) AS owner,
			coalesce(u.pending, old.pending) AS pending,
			CASE WHEN old.higher THEN u.size ELSE old.size END AS size,
			(old.keep_until, old.plan, old.membership, old.stamped_id, old.stamped_slug, old.organization_slug, old.owner, old.pending) AS stamp
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
			actor = CASE WHEN m.higher THEN u.actor ELSE e.actor END,
			email = CASE WHEN m.higher THEN u.email ELSE e.email END,
			token_type = CASE WHEN m.higher THEN u.token_type ELSE e.token_type END,
			address = CASE WHEN m.higher THEN u.address ELSE e.address END,
			action = CASE WHEN m.higher THEN u.action ELSE e.action END,
			method = CASE WHEN m.higher THEN u.method ELSE e.method END,
			target_type = CASE WHEN m.higher THEN u.target_type ELSE e.target_type END,
			target = CASE WHEN m.higher THEN u.target ELSE e.target END,
			outcome = CASE WHEN m.higher THEN u.outcome ELSE e.outcome END,
			status = CASE WHEN m.higher THEN u.status ELSE e.status END,
			event = CASE WHEN m.higher THEN u.event ELSE e.event END,
			size = m.size, owner = m.owner, organization_slug = m.organization_slug,
			class = m.class, keep_until = m.keep_until, plan = m.plan, membership = m.membership,
			stamped_id = m.stamped_id, stamped_slug = m.stamped_slug, pending = m.pending
		FROM m JOIN u ON u.n = m.n
		WHERE e.timestamp BETWEEN earliest AND latest AND e.timestamp = m.timestamp AND e.id = m.id AND e.class = m.was
		AND (m.higher OR m.class <> m.was OR m.stamp IS DISTINCT FROM
			(m.keep_until, m.plan, m.membership, m.stamped_id, m.stamped_slug, m.organization_slug, m.owner, m.pending))
	), named AS (
		INSERT INTO {schema}.named (slug, owner)
		SELECT DISTINCT m.organization_slug, m.owner FROM m
		WHERE starts_with(m.owner, 'id:') AND m.organization_slug IS NOT NULL
			AND NOT EXISTS (SELECT FROM {schema}.named s WHERE s.slug = m.organization_slug AND s.owner = m.owner)
		ORDER BY 1, 2 ON CONFLICT DO NOTHING
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
CREATE OR REPLACE FUNCTION {schema}.restamp(
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
		classes, keeps, plans, memberships, stamped_ids, stamped_slugs, pendings,
		'{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', earliest, latest);
END
$$;

-- write_entries stores a batch with its stamps and Briefs, in the transaction of the caller.
-- It has each entry once, in its highest revision; the sequences of the others are in
-- replaced_sequences. An entry without a stamp has NULL in keeps and pendings. owners are
-- those by what was captured; slugs are those of the owners that are known by an id, each
-- pair once, as far as they may be new. What time it is say the caller and the server, and the
-- earlier counts.
--
-- With it a role can write that may not touch the tables: it runs as its owner. Plans are
-- made anew each time, with the bounds of the batch: one for any bounds would look into
-- every partition.
CREATE FUNCTION {schema}.write_entries(
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

	INSERT INTO {schema}.entry
		(id, revision, timestamp, instance, sequence, organization_slug, project_ref, marks, document, raw, size,
		class, keep_until, plan, membership, stamped_id, stamped_slug, pending,
		owner, actor, email, token_type, address, action, method, target_type, target, outcome, status, event)
	SELECT u.id, u.revision, u.at, u.instance, u.sequence, coalesce(u.organization, u.slug), u.project, u.marked::bigint[], u.document::json, u.raw, u.size,
		coalesce(u.class, 'default'), u.keep, u.plan, u.membership, u.sid, u.slug, coalesce(u.pending, false),
		{schema}.owner_of(u.owner, u.sid, u.slug), u.actor, u.email, u.token_type, u.address, u.action, u.method, u.target_type, u.target, u.outcome, u.status, u.event
	FROM unnest(ids, revisions, timestamps, instances, sequences, organizations, projects, marked, documents, raws, sizes,
		classes, keeps, plans, memberships, stamped_ids, stamped_slugs, pendings,
		owners, actors, emails, token_types, addresses, actions, methods, target_types, targets, outcomes, statuses, events) WITH ORDINALITY
		AS u(id, revision, at, instance, sequence, organization, project, marked, document, raw, size,
			class, keep, plan, membership, sid, slug, pending,
			owner, actor, email, token_type, address, action, method, target_type, target, outcome, status, event, n)
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

	-- The last one to be waited for, since writers of other buffers have it in common.
	INSERT INTO {schema}.named (slug, owner)
	SELECT u.slug, u.owner FROM unnest(slugs, slug_owners) AS u(slug, owner)
	WHERE NOT EXISTS (SELECT FROM {schema}.named s WHERE s.slug = u.slug AND s.owner = u.owner)
	ORDER BY 1, 2 ON CONFLICT DO NOTHING;
END
$$;

-- write_stamped is that of version 2, for its sidecars while they are being replaced, and
-- write() calls it: a batch without Briefs, which are made of the documents.
CREATE OR REPLACE FUNCTION {schema}.write_stamped(
	ids text[], revisions bigint[], timestamps bigint[], instances text[], sequences bigint[],
	organizations text[], projects text[], marked text[], documents text[], raws bytea[], sizes integer[],
	classes text[], keeps bigint[], plans text[], memberships text[], stamped_ids text[], stamped_slugs text[], pendings boolean[],
	replaced_instances text[], replaced_sequences bigint[],
	received_instances text[], received_firsts bigint[], received_lasts bigint[], clock bigint
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	b record;
	p record;
BEGIN
	SELECT array_agg(x.project_ref) AS projects, array_agg(x.captured) AS owners, array_agg(x.actor) AS actors, array_agg(x.email) AS emails,
		array_agg(x.token_type) AS token_types, array_agg(x.address) AS addresses, array_agg(x.action) AS actions, array_agg(x.method) AS methods,
		array_agg(x.target_type) AS target_types, array_agg(x.target) AS targets, array_agg(x.outcome) AS outcomes,
		array_agg(x.status) AS statuses, array_agg(x.event) AS events
	INTO b
	FROM (
		SELECT f.* FROM unnest(documents) WITH ORDINALITY AS u(document, n), {schema}.brief(u.document::json) AS f ORDER BY u.n
	) AS x;
	SELECT array_agg(x.slug) AS slugs, array_agg(x.owner) AS owners INTO p
	FROM (
		SELECT DISTINCT coalesce(u.organization, u.slug) AS slug, {schema}.owner_of(u.owner, u.sid, u.slug) AS owner
		FROM unnest(organizations, b.owners, stamped_ids, stamped_slugs) AS u(organization, owner, sid, slug)
	) AS x
	WHERE starts_with(x.owner, 'id:') AND x.slug IS NOT NULL;
	PERFORM {schema}.write_entries(ids, revisions, timestamps, instances, sequences, organizations, b.projects, marked, documents, raws, sizes,
		classes, keeps, plans, memberships, stamped_ids, stamped_slugs, pendings, replaced_instances, replaced_sequences,
		received_instances, received_firsts, received_lasts, clock,
		b.owners, b.actors, b.emails, b.token_types, b.addresses, b.actions, b.methods, b.target_types, b.targets, b.outcomes, b.statuses, b.events,
		p.slugs, p.owners);
END
$$;

-- Everybody may call a new function, unless it is said. Who could write goes on, and who
-- could read too.
DO $$
DECLARE
	role  record;
	named text;
BEGIN
	FOREACH named IN ARRAY ARRAY['write_entries', 'merge', 'brief', 'brief_bytes', 'brief_text', 'brief_stamped', 'brief_address', 'owner_of', 'object', 'erased'] LOOP
		EXECUTE format('REVOKE ALL ON FUNCTION {schema}.%I FROM PUBLIC', named);
	END LOOP;
	FOR role IN SELECT DISTINCT a.grantee FROM pg_class c, aclexplode(c.relacl) a
		WHERE c.oid = '{schema}.entry'::regclass AND a.privilege_type = 'SELECT' AND a.grantee NOT IN (0, c.relowner)
	LOOP
		EXECUTE format('GRANT SELECT ON {schema}.named TO %s', role.grantee::regrole);
	END LOOP;
	FOR role IN SELECT DISTINCT a.grantee FROM pg_proc p, aclexplode(p.proacl) a
		WHERE p.pronamespace = {literal}::regnamespace AND p.proname = 'write_stamped' AND a.grantee NOT IN (0, p.proowner)
	LOOP
		EXECUTE format('GRANT EXECUTE ON FUNCTION {schema}.write_entries TO %s', role.grantee::regrole);
	END LOOP;
END
$$;

INSERT INTO {schema}.schema_version (version) VALUES (3);
