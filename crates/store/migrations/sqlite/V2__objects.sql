-- Rules, keys, providers and models made by API. The body has the fields of the configuration file
-- and no secret; what must be kept and never shown is sealed. Times are microseconds.
CREATE TABLE objects (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    sealed TEXT,
    -- The number of the change that made it what it is.
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (kind, id),
    UNIQUE (kind, name)
) WITHOUT ROWID;

-- Grows with every change of an object: replicas notice a change by reading it. Whoever changes an
-- object updates it first, so changes come one after the other.
CREATE TABLE configuration (one INTEGER PRIMARY KEY CHECK (one = 1), change_number INTEGER NOT NULL);
INSERT INTO configuration VALUES (1, 0);

-- The state of the routing toggle, once a router has started. Replaced only by who knows its revision.
CREATE TABLE toggle (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL, state TEXT NOT NULL);

-- What was asked of the toggle and what became of it. Rows are only added: a change that waits has one
-- that has not ended, and later a second that has.
CREATE TABLE toggle_history (
    id INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    value INTEGER NOT NULL,
    reason TEXT NOT NULL,
    actor TEXT NOT NULL,
    requested_at INTEGER NOT NULL,
    effective_at INTEGER,
    outcome TEXT NOT NULL,
    ended_by TEXT,
    PRIMARY KEY (id, ended)
) WITHOUT ROWID;

-- Who changed what, and when. Written in the transaction of the change; never holds a secret.
CREATE TABLE audit (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    kind TEXT NOT NULL,
    object TEXT NOT NULL,
    before TEXT,
    after TEXT
);
