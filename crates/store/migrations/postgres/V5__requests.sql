-- Why a request went where it went, on its last attempt: JSON, null where there is nothing to tell.
ALTER TABLE entries ADD COLUMN explanation TEXT;

-- What the requests browser filters by, newest first. An index per filter, over the entries that end
-- a request: a page of a rare key, model, provider, rule or status is found without reading past the
-- others. Most requests end with 200: those are found quickly without an index.
CREATE INDEX entries_key ON entries (key, id) WHERE last;
CREATE INDEX entries_provider ON entries (provider, id) WHERE last;
CREATE INDEX entries_deployment ON entries (deployment, id) WHERE last;
CREATE INDEX entries_rule ON entries (rule, id) WHERE last AND rule IS NOT NULL;
CREATE INDEX entries_failed ON entries (status, id) WHERE last AND status <> 200;
