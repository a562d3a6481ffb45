CREATE TABLE entry (
	key               INTEGER PRIMARY KEY,
	id                TEXT    NOT NULL UNIQUE,
	revision          INTEGER NOT NULL,
	timestamp         INTEGER NOT NULL, -- arrival, microseconds since epoch
	organization_slug TEXT,
	project_ref       TEXT,
	token             INTEGER,          -- marks of who acts, see mark
	session           INTEGER,
	user              INTEGER,
	ip                INTEGER,
	instance          TEXT    NOT NULL, -- the buffer that this revision came from
	sequence          INTEGER NOT NULL, -- and its number there
	document          TEXT    NOT NULL  -- the whole entry, JSON
, class TEXT, keep_until INTEGER, plan TEXT, membership TEXT, stamped_organization_id TEXT, stamped_organization_slug TEXT, pending INTEGER, held INTEGER);
CREATE INDEX entry_by_time ON entry (timestamp, id);
CREATE INDEX entry_by_organization ON entry (organization_slug, timestamp, id) WHERE organization_slug IS NOT NULL;
CREATE INDEX entry_by_project ON entry (project_ref, timestamp, id) WHERE project_ref IS NOT NULL;
CREATE INDEX entry_by_token ON entry (key >> 12, token) WHERE token IS NOT NULL;
CREATE INDEX entry_by_session ON entry (key >> 12, session) WHERE session IS NOT NULL;
CREATE INDEX entry_by_user ON entry (key >> 12, user) WHERE user IS NOT NULL;
CREATE INDEX entry_by_ip ON entry (key >> 12, ip) WHERE ip IS NOT NULL;
CREATE TABLE other_token (
	token INTEGER NOT NULL, -- mark of a further credential of a call
	key   INTEGER NOT NULL, -- of its entry
	PRIMARY KEY (token, key)
) WITHOUT ROWID;
CREATE TABLE received (
	instance TEXT    NOT NULL,
	first    INTEGER NOT NULL,
	last     INTEGER NOT NULL,
	PRIMARY KEY (instance, first)
) WITHOUT ROWID;
CREATE TABLE expiring (
	keep_until INTEGER NOT NULL,
	block      INTEGER NOT NULL, -- key >> 8
	PRIMARY KEY (keep_until, block)
) WITHOUT ROWID;
CREATE TABLE pending (
	timestamp INTEGER NOT NULL,
	key       INTEGER NOT NULL,
	PRIMARY KEY (timestamp, key)
) WITHOUT ROWID;
CREATE TABLE held (
	mark INTEGER NOT NULL, -- entry.held
	key  INTEGER NOT NULL,
	PRIMARY KEY (mark, key)
) WITHOUT ROWID;
CREATE INDEX other_token_by_key ON other_token (key);
CREATE TABLE gone (
	instance TEXT    NOT NULL,
	first    INTEGER NOT NULL,
	last     INTEGER NOT NULL,
	PRIMARY KEY (instance, first)
) WITHOUT ROWID;
CREATE TABLE receipt (
	day            INTEGER NOT NULL, -- of the deletion, since epoch
	class          TEXT    NOT NULL, -- empty for what had no stamp
	instance       TEXT    NOT NULL,
	rule           TEXT    NOT NULL,
	first_sequence INTEGER NOT NULL,
	last_sequence  INTEGER NOT NULL,
	first_arrival  INTEGER NOT NULL, -- microseconds since epoch, as all that follow
	last_arrival   INTEGER NOT NULL,
	kept_until     INTEGER NOT NULL,
	entries        INTEGER NOT NULL,
	late           INTEGER NOT NULL,
	deleted_from   INTEGER NOT NULL,
	deleted_to     INTEGER NOT NULL,
	PRIMARY KEY (day, class, instance)
) WITHOUT ROWID;
CREATE INDEX receipt_by_class ON receipt (class, last_arrival);
CREATE TABLE hold (
	id    TEXT    PRIMARY KEY,
	since INTEGER NOT NULL, -- microseconds since epoch
	hold  TEXT    NOT NULL  -- all of it, JSON
) WITHOUT ROWID;
CREATE TABLE class_total (
	class           TEXT    PRIMARY KEY, -- empty for what has no stamp
	entries         INTEGER NOT NULL DEFAULT 0,
	bytes           INTEGER NOT NULL DEFAULT 0, -- of their documents
	held            INTEGER NOT NULL DEFAULT 0, -- how many of them are marked as held
	pending         INTEGER NOT NULL DEFAULT 0,
	deleted_arrival INTEGER, -- the latest arrival that a receipt is for
	deleted_until   INTEGER  -- and the latest end of a retention
) WITHOUT ROWID;
CREATE TABLE state (
	name  TEXT    PRIMARY KEY, -- see the constants of that name
	value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO entry VALUES (1, '0199c82c-c001-7000-8e37-79b97f4a7c15', 1, 1760000000001000, 'org-1', 'ref-1-1', 7582914929361301175, 8704947044511338359, 232429468045029811, -6787289828861772126, '0198c0de-0000-7000-8000-000000000001', 1, '{"id":"0199c82c-c001-7000-8e37-79b97f4a7c15","revision":1,"request_id":"0199c82cc00100009e3779b97f4a7c15","trace_id":"0199c82cc00100009e3779b97f4a7c15","timestamp":1760000000001000,"duration_us":1234,"organization_slug":"org-1","project_ref":"ref-1-1","action":{"code":"v1-update-function","name":"Update a function","method":"PATCH","route":"/v1/projects/{ref}/functions/{slug}","path":"/v1/projects/abcdefgh1/functions/hello","host":"api.example.com","status":200,"status_source":"written"},"actor":{"token_type":"jwt","token_hash":"47dc540c94ceb704a23875c11273e16bb0b8a87aed84de911f2133568115f254","verification":"signature","user_id":"7b1c0000-0000-4000-8000-000000000001","ip":"203.0.113.1","ip_source":"peer","session_id":"5e550000-0000-4000-8000-000000000001","user_agent":"curl/8.9.1"},"outcome":"success","policy":{"rule":"default","level":"metadata","durability":"strict"},"origin":{"instance":"0198c0de-0000-7000-8000-000000000001","sequence":1},"schema_version":1}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO entry VALUES (2, '0199c82c-c002-7000-8c6e-f372fe94f82a', 1, 1760000000002000, 'org-2', 'ref-2-2', 4656806130826030819, -3935764606137846347, -7160161979220273490, -3614183680966052665, '0198c0de-0000-7000-8000-000000000001', 2, '{"id":"0199c82c-c002-7000-8c6e-f372fe94f82a","revision":1,"request_id":"0199c82cc00200003c6ef372fe94f82a","trace_id":"0199c82cc00200003c6ef372fe94f82a","timestamp":1760000000002000,"duration_us":1234,"organization_slug":"org-2","project_ref":"ref-2-2","action":{"code":"v1-update-function","name":"Update a function","method":"PATCH","route":"/v1/projects/{ref}/functions/{slug}","path":"/v1/projects/abcdefgh2/functions/hello","host":"api.example.com","status":200,"status_source":"written"},"actor":{"token_type":"jwt","token_hash":"99be5efb88ca2013bd8e4eb035fd42d5245468fe9afa70d8ba9c1c419a48c4e8","verification":"signature","user_id":"7b1c0000-0000-4000-8000-000000000002","ip":"203.0.113.2","ip_source":"peer","session_id":"5e550000-0000-4000-8000-000000000002","user_agent":"curl/8.9.1"},"outcome":"success","policy":{"rule":"default","level":"metadata","durability":"strict"},"origin":{"instance":"0198c0de-0000-7000-8000-000000000001","sequence":2},"schema_version":1}', 'default', 1794700800000000, 'team', 'proven', 'o-2', NULL, NULL, NULL);
INSERT INTO entry VALUES (3, '0199c82c-c003-7000-8aa6-6d2c7ddf743f', 1, 1760000000003000, 'org-3', 'ref-3-0', 480906329792503326, -5165481742255736355, -1598736625600493751, -8484291197340950768, '0198c0de-0000-7000-8000-000000000001', 3, '{"id":"0199c82c-c003-7000-8aa6-6d2c7ddf743f","revision":1,"request_id":"0199c82cc0030000daa66d2c7ddf743f","trace_id":"0199c82cc0030000daa66d2c7ddf743f","timestamp":1760000000003000,"duration_us":1234,"organization_slug":"org-3","project_ref":"ref-3-0","action":{"code":"v1-update-function","name":"Update a function","method":"PATCH","route":"/v1/projects/{ref}/functions/{slug}","path":"/v1/projects/abcdefgh3/functions/hello","host":"api.example.com","status":200,"status_source":"written"},"actor":{"token_type":"jwt","token_hash":"9b4fb24edd6d1d8830e272398263cdbf026b97392cc35387b991dc0248a628f9","verification":"signature","user_id":"7b1c0000-0000-4000-8000-000000000003","email":"ann@example.com","ip":"203.0.113.3","ip_source":"peer","session_id":"5e550000-0000-4000-8000-000000000003","user_agent":"curl/8.9.1"},"target":{"type":"member","id":"m-1"},"outcome":"success","policy":{"rule":"default","level":"metadata","durability":"strict"},"origin":{"instance":"0198c0de-0000-7000-8000-000000000001","sequence":3},"schema_version":1}', 'default', 1794700800000000, 'team', 'unproven', NULL, NULL, NULL, NULL);
INSERT INTO entry VALUES (4, '0199c82c-c00b-7000-8c62-3af8783354e7', 1, 1760000000011000, 'org-1', NULL, -4841951519494475061, -2859468973561165810, 4043829014686024107, 1598900333348438323, '0198c0de-0000-7000-8000-000000000001', 4, '{"id":"0199c82c-c00b-7000-8c62-3af8783354e7","revision":1,"request_id":"0199c82cc00b0000cc623af8783354e7","trace_id":"0199c82cc00b0000cc623af8783354e7","timestamp":1760000000011000,"duration_us":1234,"action":{"code":"v1-update-function","name":"Update a function","method":"PATCH","route":"/v1/projects/{ref}/functions/{slug}","path":"/v1/projects/abcdefgh11/functions/hello","host":"api.example.com","status":200,"status_source":"written"},"actor":{"token_type":"jwt","token_hash":"cbe2268747c9c8072c7f9926f2288f270637dc55bb9d14d3368361d5e47d25be","verification":"signature","user_id":"7b1c0000-0000-4000-8000-00000000000b","ip":"203.0.113.11","ip_source":"peer","session_id":"5e550000-0000-4000-8000-00000000000b","user_agent":"curl/8.9.1"},"outcome":"success","policy":{"rule":"default","level":"metadata","durability":"strict"},"origin":{"instance":"0198c0de-0000-7000-8000-000000000001","sequence":4},"schema_version":1}', 'default', 1794700800000000, 'team', 'proven', 'o-1', 'org-1', NULL, NULL);
INSERT INTO entry VALUES (5, '0199c82c-c016-7000-88c4-75f0f066a9ce', 1, 1760000000022000, NULL, NULL, -560624843719212065, -2352796500655855076, 4589098848738154725, 740112232632917218, '0198c0de-0000-7000-8000-000000000001', 5, '{"id":"0199c82c-c016-7000-88c4-75f0f066a9ce","revision":1,"request_id":"0199c82cc016000098c475f0f066a9ce","trace_id":"0199c82cc016000098c475f0f066a9ce","timestamp":1760000000022000,"duration_us":1234,"action":{"code":"v1-update-function","name":"Update a function","method":"PATCH","route":"/v1/projects/{ref}/functions/{slug}","path":"/v1/projects/abcdefgh22/functions/hello","host":"api.example.com","status":200,"status_source":"written"},"actor":{"token_type":"jwt","token_hash":"d57e9d4f5842134f140032eaf38b5333638e8c4b145fcf86a23d48d3e9acc0f8","verification":"signature","user_id":"7b1c0000-0000-4000-8000-000000000016","ip":"203.0.113.22","ip_source":"peer","session_id":"5e550000-0000-4000-8000-000000000016","user_agent":"curl/8.9.1"},"outcome":"success","policy":{"rule":"default","level":"metadata","durability":"strict"},"origin":{"instance":"0198c0de-0000-7000-8000-000000000001","sequence":5},"schema_version":1}', 'default', 1794700800000000, 'team', NULL, NULL, NULL, 1, NULL);
INSERT INTO entry VALUES (6, '0199c82c-c005-7000-8715-609f7c746c69', 1, 1760000000005000, 'org-5', 'long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-', 2001418974270164477, 6864225764196062217, 2088336638045989350, 4902839489402461859, '0198c0de-0000-7000-8000-000000000001', 6, '{"id":"0199c82c-c005-7000-8715-609f7c746c69","revision":1,"request_id":"0199c82cc00500001715609f7c746c69","trace_id":"0199c82cc00500001715609f7c746c69","timestamp":1760000000005000,"duration_us":1234,"organization_id":"o-5","organization_slug":"org-5","project_ref":"long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-","action":{"code":"v1-update-function","name":"Update a function","method":"PATCH","route":"/v1/projects/{ref}/functions/{slug}","path":"/v1/projects/abcdefgh5/functions/hello","host":"api.example.com","status":200,"status_source":"written"},"actor":{"token_type":"jwt","token_hash":"2921a11f25dadaa24aa79a548e4e81508c2e5e56af2d833d65e2bcce448ce2f5","verification":"signature","user_id":"7b1c0000-0000-4000-8000-000000000005","ip":"203.0.113.5","ip_source":"peer","session_id":"5e550000-0000-4000-8000-000000000005","user_agent":"curl/8.9.1"},"outcome":"success","policy":{"rule":"default","level":"metadata","durability":"strict"},"origin":{"instance":"0198c0de-0000-7000-8000-000000000001","sequence":6},"schema_version":1}', 'default', 1794700800000000, 'team', 'proven', NULL, NULL, NULL, NULL);
INSERT INTO entry VALUES (7, '0199c82c-c006-7000-854c-da58fbbee87e', 2, 1760000000006000, 'org-6', 'ref-6-0', 6564715826856306323, -6973941244614856653, -778454419633217628, 7476708672866321255, '0198c0de-0000-7000-8000-000000000001', 8, '{"id":"0199c82c-c006-7000-854c-da58fbbee87e","revision":2,"request_id":"0199c82cc0060000b54cda58fbbee87e","trace_id":"0199c82cc0060000b54cda58fbbee87e","timestamp":1760000000006000,"duration_us":1234,"organization_id":"o-6","organization_slug":"org-6","project_ref":"ref-6-0","action":{"code":"v1-update-function","name":"Update a function","method":"PATCH","route":"/v1/projects/{ref}/functions/{slug}","path":"/v1/projects/abcdefgh6/functions/hello","host":"api.example.com","status":500,"status_source":"written"},"actor":{"token_type":"jwt","token_hash":"ceb827ad3d3884fd4d50ae6099d6d50c09a21e72ebd309708e8b69d93df19e55","verification":"signature","user_id":"7b1c0000-0000-4000-8000-000000000006","ip":"203.0.113.6","ip_source":"peer","session_id":"5e550000-0000-4000-8000-000000000006","user_agent":"curl/8.9.1"},"outcome":"failure","policy":{"rule":"default","level":"metadata","durability":"strict"},"origin":{"instance":"0198c0de-0000-7000-8000-000000000001","sequence":8},"schema_version":1}', 'default', 1794700800000000, 'team', 'proven', NULL, NULL, NULL, NULL);
INSERT INTO entry VALUES (8, '0199c82c-c100-7000-8000-000000000000', 1, 1760000000020000, NULL, NULL, NULL, NULL, NULL, NULL, '0198c0de-0000-7000-8000-000000000001', 9, '{"id":"0199c82c-c100-7000-8000-000000000000","revision":1,"timestamp":1760000000020000,"recorded_at":1760000000020000,"action":{"code":"audit.started","name":"Audit log started"},"actor":{"token_type":"none","verification":"none"},"outcome":"success","policy":{"rule":"sidecar","level":"metadata","durability":"answer"},"origin":{"instance":"0198c0de-0000-7000-8000-000000000001","sequence":9},"schema_version":1}', 'sidecar', 1794700800000000, 'team', NULL, NULL, NULL, NULL, NULL);
INSERT INTO entry VALUES (9, '0199c82c-c110-7000-8000-000000000001', 1, 1760000000021000, NULL, NULL, NULL, NULL, NULL, NULL, '0198c0de-0000-7000-8000-000000000001', 10, '{"id":"0199c82c-c110-7000-8000-000000000001","revision":1,"timestamp":1760000000021000,"recorded_at":1760000000021000,"action":{"code":"audit.heartbeat","name":"Audit heartbeat"},"actor":{"token_type":"none","verification":"none"},"outcome":"success","policy":{"rule":"sidecar","level":"metadata","durability":"answer"},"origin":{"instance":"0198c0de-0000-7000-8000-000000000001","sequence":10},"schema_version":1}', 'sidecar', 1794700800000000, 'team', NULL, NULL, NULL, NULL, NULL);
INSERT INTO received VALUES ('0198c0de-0000-7000-8000-000000000001', 1, 10);
INSERT INTO expiring VALUES (1794700800000000, 0);
INSERT INTO pending VALUES (1760000000022000, 5);
INSERT INTO gone VALUES ('0198c0de-0000-7000-8000-000000000001', 7, 7);
INSERT INTO hold VALUES ('h', 1760000000000000, '{"id":"h","organization":"org-2","reason":"a dispute","since":"2025-10-09T08:53:20Z"}');
INSERT INTO class_total VALUES ('', 1, 976, 0, 0, NULL, NULL);
INSERT INTO class_total VALUES ('default', 6, 6061, 0, 1, NULL, NULL);
INSERT INTO class_total VALUES ('sidecar', 2, 827, 0, 0, NULL, NULL);
INSERT INTO state VALUES ('untagged', 1);
INSERT INTO state VALUES ('untagged_last', 1);
PRAGMA application_id = 1128355140; PRAGMA user_version = 2;
