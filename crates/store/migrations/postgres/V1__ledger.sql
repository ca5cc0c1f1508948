-- One row for each attempt that went upstream. Ids are UUIDs of version 7: rows are appended in
-- the order of time, and a range of time is a range of the primary key.
CREATE TABLE entries (
    id UUID NOT NULL PRIMARY KEY,
    request_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    last BOOLEAN NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    key TEXT NOT NULL,
    owner TEXT NOT NULL,
    end_user TEXT,
    format TEXT NOT NULL,
    model_asked TEXT NOT NULL,
    model TEXT,
    provider TEXT NOT NULL,
    deployment TEXT NOT NULL,
    rule TEXT,
    stream BOOLEAN NOT NULL,
    revision BIGINT NOT NULL,
    input BIGINT NOT NULL,
    cached_input BIGINT NOT NULL,
    cache_write_5m BIGINT NOT NULL,
    cache_write_1h BIGINT NOT NULL,
    audio_input BIGINT NOT NULL,
    image_input BIGINT NOT NULL,
    output BIGINT NOT NULL,
    reasoning BIGINT NOT NULL,
    accepted_prediction BIGINT NOT NULL,
    rejected_prediction BIGINT NOT NULL,
    audio_output BIGINT NOT NULL,
    image_output BIGINT NOT NULL,
    web_searches BIGINT NOT NULL,
    service_tier TEXT,
    estimated TEXT,
    -- USD, exact. Null where there is no price.
    cost NUMERIC,
    status INTEGER NOT NULL,
    error TEXT,
    queue_us BIGINT,
    connect_us BIGINT,
    first_token_us BIGINT,
    total_us BIGINT,
    ending TEXT NOT NULL,
    disconnect TEXT
);

-- A request by its id, with its attempts.
CREATE INDEX entries_request ON entries (request_id, id);
-- The requests of an owner, newest first: what a role that sees its own usage asks for.
CREATE INDEX entries_owner ON entries (owner, id);

-- Sums by day and by month, kept in the transaction that inserts entries. The month's serve long
-- ranges, the day's the ragged ends; both stay small however many entries there are.
CREATE TABLE cost_daily (
    day DATE NOT NULL, key TEXT NOT NULL, owner TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL,
    requests BIGINT NOT NULL, input_tokens BIGINT NOT NULL, cached_input_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL, reasoning_tokens BIGINT NOT NULL,
    cost NUMERIC NOT NULL,
    unpriced_requests BIGINT NOT NULL, estimated_requests BIGINT NOT NULL,
    PRIMARY KEY (day, key, owner, provider, model)
);
CREATE TABLE cost_monthly (
    day DATE NOT NULL, key TEXT NOT NULL, owner TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL,
    requests BIGINT NOT NULL, input_tokens BIGINT NOT NULL, cached_input_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL, reasoning_tokens BIGINT NOT NULL,
    cost NUMERIC NOT NULL,
    unpriced_requests BIGINT NOT NULL, estimated_requests BIGINT NOT NULL,
    PRIMARY KEY (day, key, owner, provider, model)
);

-- The same by end user, apart from the models, or the product of both would grow as the entries do.
CREATE TABLE user_daily (
    day DATE NOT NULL, key TEXT NOT NULL, owner TEXT NOT NULL, end_user TEXT NOT NULL,
    requests BIGINT NOT NULL, input_tokens BIGINT NOT NULL, cached_input_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL, reasoning_tokens BIGINT NOT NULL,
    cost NUMERIC NOT NULL,
    unpriced_requests BIGINT NOT NULL, estimated_requests BIGINT NOT NULL,
    PRIMARY KEY (day, key, owner, end_user)
);
CREATE TABLE user_monthly (
    day DATE NOT NULL, key TEXT NOT NULL, owner TEXT NOT NULL, end_user TEXT NOT NULL,
    requests BIGINT NOT NULL, input_tokens BIGINT NOT NULL, cached_input_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL, reasoning_tokens BIGINT NOT NULL,
    cost NUMERIC NOT NULL,
    unpriced_requests BIGINT NOT NULL, estimated_requests BIGINT NOT NULL,
    PRIMARY KEY (day, key, owner, end_user)
);

-- Up to where retention has deleted entries: days before it can't be added up again.
CREATE TABLE retention (one INTEGER PRIMARY KEY CHECK (one = 1), pruned_to TIMESTAMPTZ NOT NULL);
INSERT INTO retention VALUES (1, 'epoch');
