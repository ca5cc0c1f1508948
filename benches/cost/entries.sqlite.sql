-- COUNT entries over the year 2026, in the order of time, and their sums; into an empty store.
PRAGMA journal_mode = MEMORY;
PRAGMA synchronous = OFF;
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :count),
t AS (SELECT i, 1767225600000 + i * 31536000000 / :count AS ms,
    (i * 7919) % 10007 AS r FROM n)
INSERT INTO entries (id, request_id, attempt, last, at, key, owner, end_user, format, model_asked,
    model, provider, deployment, stream, revision, input, cached_input, cache_write_5m,
    cache_write_1h, audio_input, image_input, output, reasoning, accepted_prediction,
    rejected_prediction, audio_output, image_output, web_searches, cost_micro, cost_femto, status,
    queue_us, total_us, ending)
SELECT unhex(printf('%012x70008000%012x', ms, i)), printf('req-%x', i), 1, 1, ms * 1000,
    'key-' || (r % 15), 'team-' || (r % 5), CASE WHEN r % 2 THEN 'user-' || (r % 200) END,
    'openai-chat', 'auto', 'fast', 'provider-' || (r % 3), 'model-' || (r % 8), r % 2, 1, r, r % 97,
    0, 0, 0, 0, r % 389, 0, 0, 0, 0, 0, 0, r % 389 * 5, r, 200, 150, 900000, 'complete'
FROM t;
INSERT INTO cost_daily SELECT date(at / 1000000, 'unixepoch'), key, owner, provider, deployment,
    count(*), sum(input + cached_input), sum(cached_input), 0, sum(output), 0, sum(cost_micro),
    sum(cost_femto), 0, 0 FROM entries GROUP BY 1, 2, 3, 4, 5;
INSERT INTO user_daily SELECT date(at / 1000000, 'unixepoch'), key, owner,
    coalesce(end_user, owner), count(*), sum(input + cached_input), sum(cached_input), 0,
    sum(output), 0, sum(cost_micro), sum(cost_femto), 0, 0 FROM entries GROUP BY 1, 2, 3, 4;
INSERT INTO cost_monthly SELECT date(day, 'start of month'), key, owner, provider, model,
    sum(requests), sum(input_tokens), sum(cached_input_tokens), 0, sum(output_tokens), 0,
    sum(cost_micro), sum(cost_femto), 0, 0 FROM cost_daily GROUP BY 1, 2, 3, 4, 5;
INSERT INTO user_monthly SELECT date(day, 'start of month'), key, owner, end_user, sum(requests),
    sum(input_tokens), sum(cached_input_tokens), 0, sum(output_tokens), 0, sum(cost_micro),
    sum(cost_femto), 0, 0 FROM user_daily GROUP BY 1, 2, 3, 4;
COMMIT;
