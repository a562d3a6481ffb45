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
);
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
PRAGMA application_id = 1128355140;
PRAGMA user_version = 1;
