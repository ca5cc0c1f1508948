-- The book of budgets that replicas share where they have no Redis. UNLOGGED: nothing is written to
-- the log and no call waits for a disk; what a crash of the server empties, replicas tell it again,
-- and a new row in budget_epoch says that they have to.
CREATE UNLOGGED TABLE budget_epoch (
    only_one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (only_one),
    epoch UUID NOT NULL DEFAULT gen_random_uuid(),
    began TIMESTAMPTZ NOT NULL
);

-- The replicas. What comes over an earlier connection of one is void.
CREATE UNLOGGED TABLE budget_replicas (
    replica UUID PRIMARY KEY, connection BIGINT NOT NULL, counts_until TIMESTAMPTZ NOT NULL
);

-- An account in one of its periods. `known`: it was told what the ledger says. `first_expiry`: no
-- reservation ends before. Room is left on each page for the many versions of a row in use.
CREATE UNLOGGED TABLE budget_lines (
    line TEXT PRIMARY KEY, known BOOLEAN NOT NULL DEFAULT FALSE,
    spent NUMERIC NOT NULL DEFAULT 0, reserved NUMERIC NOT NULL DEFAULT 0,
    first_expiry TIMESTAMPTZ NOT NULL DEFAULT 'infinity', used_at TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX budget_lines_used ON budget_lines (used_at);

-- What each run of a process has spent of a line: a number that only grows.
CREATE UNLOGGED TABLE budget_runs (
    line TEXT NOT NULL, run BIGINT NOT NULL, spent NUMERIC NOT NULL, PRIMARY KEY (line, run)
) WITH (fillfactor = 50);

CREATE UNLOGGED TABLE budget_holds (
    line TEXT NOT NULL, id UUID NOT NULL, usd NUMERIC NOT NULL, expires TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (line, id)
);

-- Says that a replica is there, for so long; 0: it leaves.
CREATE FUNCTION budget_announce(
    of_replica UUID, over_connection BIGINT, counts_ms BIGINT,
    OUT is_epoch TEXT, OUT age_ms BIGINT, OUT replicas BIGINT
) LANGUAGE plpgsql AS $$
DECLARE
    at TIMESTAMPTZ := clock_timestamp();
    idle TEXT[];
BEGIN
    SELECT epoch::text, greatest(extract(epoch FROM at - began) * 1000, 0)
        INTO is_epoch, age_ms FROM budget_epoch;
    IF NOT FOUND THEN
        INSERT INTO budget_epoch (began) VALUES (at) ON CONFLICT DO NOTHING;
        SELECT epoch::text, 0 INTO is_epoch, age_ms FROM budget_epoch;
    END IF;
    INSERT INTO budget_replicas AS known
        VALUES (of_replica, over_connection, at + counts_ms * interval '1 ms')
        ON CONFLICT (replica) DO UPDATE
        SET connection = greatest(known.connection, excluded.connection),
            counts_until = excluded.counts_until;
    DELETE FROM budget_replicas WHERE counts_until < at - interval '2 days';
    SELECT count(*) INTO replicas FROM budget_replicas WHERE counts_until > at;
    -- Whoever comes after that asks the ledger what was spent before.
    WITH gone AS (
        DELETE FROM budget_lines WHERE line IN (
            SELECT line FROM budget_lines WHERE used_at < at - interval '2 days'
            ORDER BY used_at LIMIT 100 FOR UPDATE SKIP LOCKED)
        RETURNING line)
    SELECT array_agg(line) INTO idle FROM gone;
    IF idle IS NOT NULL THEN
        DELETE FROM budget_runs WHERE line = ANY (idle);
        DELETE FROM budget_holds WHERE line = ANY (idle);
    END IF;
END $$;

-- Whether what comes over a connection counts. Its replica's next one waits until this has ended.
CREATE FUNCTION budget_counts(of_replica UUID, over_connection BIGINT)
RETURNS BOOLEAN LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM budget_replicas
        WHERE replica = of_replica AND connection <= over_connection FOR SHARE;
    RETURN FOUND;
END $$;

-- Brings a line that is locked up to date: what a run has spent, and which reservations are gone.
CREATE FUNCTION budget_note(
    of_line TEXT, of_runs BIGINT[], their_spent NUMERIC[], let_go UUID[], at TIMESTAMPTZ,
    INOUT now_spent NUMERIC, INOUT now_reserved NUMERIC, INOUT now_first TIMESTAMPTZ
) LANGUAGE plpgsql AS $$
DECLARE
    known NUMERIC;
    freed NUMERIC;
BEGIN
    FOR i IN 1 .. cardinality(of_runs) LOOP
        SELECT coalesce(sum(spent), 0) INTO known FROM budget_runs
            WHERE line = of_line AND run = of_runs[i];
        IF their_spent[i] > known THEN
            INSERT INTO budget_runs VALUES (of_line, of_runs[i], their_spent[i])
                ON CONFLICT (line, run) DO UPDATE SET spent = excluded.spent;
            now_spent := now_spent + their_spent[i] - known;
        END IF;
    END LOOP;
    WITH gone AS (
        DELETE FROM budget_holds WHERE line = of_line AND id = ANY (let_go) RETURNING usd)
    SELECT coalesce(sum(usd), 0) INTO freed FROM gone;
    now_reserved := now_reserved - freed;
    IF now_first <= at THEN
        WITH gone AS (
            DELETE FROM budget_holds WHERE line = of_line AND expires <= at RETURNING usd)
        SELECT coalesce(sum(usd), 0) INTO freed FROM gone;
        now_reserved := now_reserved - freed;
        SELECT coalesce(min(expires), 'infinity') INTO now_first FROM budget_holds
            WHERE line = of_line AND expires > at;
    END IF;
END $$;

CREATE FUNCTION budget_keep(
    of_line TEXT, now_known BOOLEAN, now_spent NUMERIC, now_reserved NUMERIC,
    now_first TIMESTAMPTZ, at TIMESTAMPTZ
) RETURNS VOID LANGUAGE sql AS $$
    UPDATE budget_lines
    SET known = now_known, spent = now_spent, reserved = now_reserved, first_expiry = now_first,
        -- Seldom, so that most versions of the row need no new place in an index.
        used_at = CASE WHEN used_at < at - interval '1 hour' THEN at ELSE used_at END
    WHERE line = of_line
$$;

-- Holds an amount on every line, or on none. The outcome is `void`, `unknown` if it isn't known
-- what was spent of a line before, `held`, or `full` with the position of the line.
CREATE FUNCTION budget_claim(
    of_replica UUID, over_connection BIGINT, of_run BIGINT, hold UUID, instead UUID,
    amount NUMERIC, lasts_ms BIGINT, of_lines TEXT[], ceilings NUMERIC[], own NUMERIC[],
    OUT outcome TEXT, OUT at_line INT, OUT line_spent NUMERIC[], OUT line_reserved NUMERIC[]
) LANGUAGE plpgsql AS $$
DECLARE
    at TIMESTAMPTZ;
    found BIGINT;
    firsts TIMESTAMPTZ[];
    now_spent NUMERIC;
    now_reserved NUMERIC;
    now_first TIMESTAMPTZ;
BEGIN
    outcome := 'void';
    IF NOT budget_counts(of_replica, over_connection) THEN
        RETURN;
    END IF;
    outcome := 'unknown';
    PERFORM 1 FROM budget_lines WHERE line = ANY (of_lines) AND known ORDER BY line FOR UPDATE;
    GET DIAGNOSTICS found = ROW_COUNT;
    IF found < cardinality(of_lines) THEN
        RETURN;
    END IF;
    at := clock_timestamp();
    outcome := 'held';
    FOR i IN 1 .. cardinality(of_lines) LOOP
        SELECT spent, reserved, first_expiry INTO now_spent, now_reserved, now_first
            FROM budget_lines WHERE line = of_lines[i];
        SELECT * INTO now_spent, now_reserved, now_first FROM budget_note(
            of_lines[i], ARRAY[of_run], ARRAY[own[i]], ARRAY[hold, instead], at,
            now_spent, now_reserved, now_first);
        IF outcome = 'held' AND now_spent + now_reserved + amount > ceilings[i] THEN
            outcome := 'full';
            at_line := i;
        END IF;
        line_spent[i] := now_spent;
        line_reserved[i] := now_reserved;
        firsts[i] := now_first;
    END LOOP;
    FOR i IN 1 .. cardinality(of_lines) LOOP
        -- A refusal is told with what stood before it.
        IF outcome = 'held' THEN
            INSERT INTO budget_holds
                VALUES (of_lines[i], hold, amount, at + lasts_ms * interval '1 ms');
            line_reserved[i] := line_reserved[i] + amount;
            firsts[i] := least(firsts[i], at + lasts_ms * interval '1 ms');
        END IF;
        PERFORM budget_keep(of_lines[i], TRUE, line_spent[i], line_reserved[i], firsts[i], at);
    END LOOP;
END $$;

-- Notes what runs have spent of lines (`told_line` says of which, by position), and lets a
-- reservation go or stand. Again changes nothing. `line_known` is null if it is void.
CREATE FUNCTION budget_tell(
    of_replica UUID, over_connection BIGINT, change TEXT, hold UUID, amount NUMERIC,
    lasts_ms BIGINT, of_lines TEXT[], whole BOOLEAN[], told_line INT[], told_run BIGINT[],
    told_spent NUMERIC[],
    OUT line_known BOOLEAN[], OUT line_spent NUMERIC[], OUT line_reserved NUMERIC[]
) LANGUAGE plpgsql AS $$
DECLARE
    at TIMESTAMPTZ;
    found BIGINT;
    now_known BOOLEAN;
    now_spent NUMERIC;
    now_reserved NUMERIC;
    now_first TIMESTAMPTZ;
BEGIN
    IF NOT budget_counts(of_replica, over_connection) THEN
        RETURN;
    END IF;
    LOOP
        PERFORM 1 FROM budget_lines WHERE line = ANY (of_lines) ORDER BY line FOR UPDATE;
        GET DIAGNOSTICS found = ROW_COUNT;
        EXIT WHEN found >= cardinality(of_lines);
        INSERT INTO budget_lines (line, used_at)
            SELECT line, clock_timestamp() FROM unnest(of_lines) AS line ORDER BY line
            ON CONFLICT DO NOTHING;
    END LOOP;
    at := clock_timestamp();
    line_known := '{}';
    FOR i IN 1 .. cardinality(of_lines) LOOP
        SELECT known, spent, reserved, first_expiry
            INTO now_known, now_spent, now_reserved, now_first
            FROM budget_lines WHERE line = of_lines[i];
        SELECT note.* INTO now_spent, now_reserved, now_first
            FROM (SELECT coalesce(array_agg(told_run[j]), '{}') AS runs,
                         coalesce(array_agg(told_spent[j]), '{}') AS spent
                  FROM generate_subscripts(told_line, 1) AS j WHERE told_line[j] = i) AS told,
                 budget_note(of_lines[i], told.runs, told.spent, ARRAY[hold], at,
                             now_spent, now_reserved, now_first) AS note;
        IF change = 'hold' THEN
            INSERT INTO budget_holds
                VALUES (of_lines[i], hold, amount, at + lasts_ms * interval '1 ms');
            now_reserved := now_reserved + amount;
            now_first := least(now_first, at + lasts_ms * interval '1 ms');
        END IF;
        now_known := now_known OR whole[i];
        PERFORM budget_keep(of_lines[i], now_known, now_spent, now_reserved, now_first, at);
        line_known[i] := now_known;
        line_spent[i] := now_spent;
        line_reserved[i] := now_reserved;
    END LOOP;
END $$;
