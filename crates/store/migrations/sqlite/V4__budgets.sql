-- What each run of a process has spent of the budgets that replicas share, by day: its part of
-- cost_daily, which says nothing of runs. Kept in the transaction that inserts entries.
CREATE TABLE spent_by_run (
    day TEXT NOT NULL, key TEXT NOT NULL, owner TEXT NOT NULL, run INTEGER NOT NULL,
    cost_micro INTEGER NOT NULL, cost_femto INTEGER NOT NULL,
    PRIMARY KEY (key, day, owner, run)
) WITHOUT ROWID;
CREATE INDEX spent_by_run_owner ON spent_by_run (owner, day);
