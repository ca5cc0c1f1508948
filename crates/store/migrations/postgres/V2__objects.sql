-- Rules, keys, providers and models made by API. The body has the fields of the configuration file
-- and no secret; what must be kept and never shown is sealed.
CREATE TABLE objects (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    sealed TEXT,
    -- The number of the change that made it what it is.
    version BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (kind, id),
    UNIQUE (kind, name)
);

-- Grows with every change of an object: replicas notice a change by reading it. Whoever changes an
-- object updates it first, so changes come one after the other.
CREATE TABLE configuration (one INTEGER PRIMARY KEY CHECK (one = 1), change_number BIGINT NOT NULL);
INSERT INTO configuration VALUES (1, 0);

-- The state of the routing toggle, once a router has started. Replaced only by who knows its revision.
CREATE TABLE toggle (one INTEGER PRIMARY KEY CHECK (one = 1), revision BIGINT NOT NULL, state TEXT NOT NULL);

-- What was asked of the toggle and what became of it. Rows are only added: a change that waits has one
-- that has not ended, and later a second that has.
CREATE TABLE toggle_history (
    id BIGINT NOT NULL,
    ended BOOLEAN NOT NULL,
    value BOOLEAN NOT NULL,
    reason TEXT NOT NULL,
    actor TEXT NOT NULL,
    requested_at TIMESTAMPTZ NOT NULL,
    effective_at TIMESTAMPTZ,
    outcome TEXT NOT NULL,
    ended_by TEXT,
    PRIMARY KEY (id, ended)
);

-- Who changed what, and when. Written in the transaction of the change; never holds a secret.
CREATE TABLE audit (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at TIMESTAMPTZ NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    kind TEXT NOT NULL,
    object TEXT NOT NULL,
    before TEXT,
    after TEXT
);
