-- One row for each attempt that went upstream. Ids are UUIDs of version 7: rows are appended in
-- the order of time, and a range of time is a range of the primary key.
CREATE TABLE entries (
    id BLOB NOT NULL PRIMARY KEY,
    request_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    last INTEGER NOT NULL,
    at INTEGER NOT NULL,
    key TEXT NOT NULL,
    owner TEXT NOT NULL,
    end_user TEXT,
    format TEXT NOT NULL,
    model_asked TEXT NOT NULL,
    model TEXT,
    provider TEXT NOT NULL,
    deployment TEXT NOT NULL,
    rule TEXT,
    stream INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    input INTEGER NOT NULL,
    cached_input INTEGER NOT NULL,
    cache_write_5m INTEGER NOT NULL,
    cache_write_1h INTEGER NOT NULL,
    audio_input INTEGER NOT NULL,
    image_input INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    accepted_prediction INTEGER NOT NULL,
    rejected_prediction INTEGER NOT NULL,
    audio_output INTEGER NOT NULL,
    image_output INTEGER NOT NULL,
    web_searches INTEGER NOT NULL,
    service_tier TEXT,
    estimated TEXT,
    -- USD: whole millionths, and the rest in 10^-15. Both are null where there is no price.
    cost_micro INTEGER,
    cost_femto INTEGER,
    status INTEGER NOT NULL,
    error TEXT,
    queue_us INTEGER,
    connect_us INTEGER,
    first_token_us INTEGER,
    total_us INTEGER,
    ending TEXT NOT NULL,
    disconnect TEXT
) WITHOUT ROWID;

-- A request by its id, with its attempts.
CREATE INDEX entries_request ON entries (request_id, id);
-- The requests of an owner, newest first: what a role that sees its own usage asks for.
CREATE INDEX entries_owner ON entries (owner, id);

-- Sums by day and by month, kept in the transaction that inserts entries. The month's serve long
-- ranges, the day's the ragged ends; both stay small however many entries there are.
CREATE TABLE cost_daily (
    day TEXT NOT NULL, key TEXT NOT NULL, owner TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL,
    requests INTEGER NOT NULL, input_tokens INTEGER NOT NULL, cached_input_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL,
    cost_micro INTEGER NOT NULL, cost_femto INTEGER NOT NULL,
    unpriced_requests INTEGER NOT NULL, estimated_requests INTEGER NOT NULL,
    PRIMARY KEY (day, key, owner, provider, model)
) WITHOUT ROWID;
CREATE TABLE cost_monthly (
    day TEXT NOT NULL, key TEXT NOT NULL, owner TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL,
    requests INTEGER NOT NULL, input_tokens INTEGER NOT NULL, cached_input_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL,
    cost_micro INTEGER NOT NULL, cost_femto INTEGER NOT NULL,
    unpriced_requests INTEGER NOT NULL, estimated_requests INTEGER NOT NULL,
    PRIMARY KEY (day, key, owner, provider, model)
) WITHOUT ROWID;

-- The same by end user, apart from the models, or the product of both would grow as the entries do.
CREATE TABLE user_daily (
    day TEXT NOT NULL, key TEXT NOT NULL, owner TEXT NOT NULL, end_user TEXT NOT NULL,
    requests INTEGER NOT NULL, input_tokens INTEGER NOT NULL, cached_input_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL,
    cost_micro INTEGER NOT NULL, cost_femto INTEGER NOT NULL,
    unpriced_requests INTEGER NOT NULL, estimated_requests INTEGER NOT NULL,
    PRIMARY KEY (day, key, owner, end_user)
) WITHOUT ROWID;
CREATE TABLE user_monthly (
    day TEXT NOT NULL, key TEXT NOT NULL, owner TEXT NOT NULL, end_user TEXT NOT NULL,
    requests INTEGER NOT NULL, input_tokens INTEGER NOT NULL, cached_input_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL,
    cost_micro INTEGER NOT NULL, cost_femto INTEGER NOT NULL,
    unpriced_requests INTEGER NOT NULL, estimated_requests INTEGER NOT NULL,
    PRIMARY KEY (day, key, owner, end_user)
) WITHOUT ROWID;

-- Up to where retention has deleted entries (microseconds): days before it can't be added up again.
CREATE TABLE retention (one INTEGER PRIMARY KEY CHECK (one = 1), pruned_to INTEGER NOT NULL);
INSERT INTO retention VALUES (1, 0);
