-- What each run of a process has spent of the budgets that replicas share, by day: its part of
-- cost_daily, which says nothing of runs. Kept in the transaction that inserts entries.
CREATE TABLE spent_by_run (
    day DATE NOT NULL, key TEXT NOT NULL, owner TEXT NOT NULL, run BIGINT NOT NULL, cost NUMERIC NOT NULL,
    PRIMARY KEY (key, day, owner, run)
);
CREATE INDEX spent_by_run_owner ON spent_by_run (owner, day);
