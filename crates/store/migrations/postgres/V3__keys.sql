-- What was deleted, by the number of the change: a replica that was in step learns of it without
-- reading everything anew. Only the latest are kept.
CREATE TABLE removals (version BIGINT PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL);
CREATE INDEX objects_version ON objects (version);

-- When each key was last used. Apart from the keys: a use is no change.
CREATE TABLE key_uses (id TEXT PRIMARY KEY, last_used_at TIMESTAMPTZ NOT NULL);
