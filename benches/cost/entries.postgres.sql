-- COUNT entries over the year 2026, in the order of time, and their sums; into an empty store.
SET synchronous_commit = off;
SET timezone = 'UTC';
INSERT INTO entries (id, request_id, attempt, last, at, key, owner, end_user, format, model_asked,
    model, provider, deployment, stream, revision, input, cached_input, cache_write_5m,
    cache_write_1h, audio_input, image_input, output, reasoning, accepted_prediction,
    rejected_prediction, audio_output, image_output, web_searches, cost, status, queue_us,
    total_us, ending)
SELECT (lpad(to_hex(ms), 12, '0') || '70008000' || lpad(to_hex(i), 12, '0'))::uuid,
    'req-' || to_hex(i), 1, true, to_timestamp(ms / 1000.0), 'key-' || (r % 15),
    'team-' || (r % 5), CASE WHEN r % 2 = 1 THEN 'user-' || (r % 200) END, 'openai-chat', 'auto',
    'fast', 'provider-' || (r % 3), 'model-' || (r % 8), r % 2 = 1, 1, r, r % 97, 0, 0, 0, 0,
    r % 389, 0, 0, 0, 0, 0, 0, (r % 389 * 5) * 0.000001 + r * 0.000000000000001, 200, 150, 900000,
    'complete'
FROM (SELECT i, 1767225600000 + i * 31536000000 / :count AS ms, (i * 7919) % 10007 AS r
    FROM generate_series(0, :count - 1::bigint) AS i) AS t;
INSERT INTO cost_daily SELECT (at AT TIME ZONE 'UTC')::date, key, owner, provider, deployment,
    count(*), sum(input + cached_input), sum(cached_input), 0, sum(output), 0, sum(cost), 0, 0
    FROM entries GROUP BY 1, 2, 3, 4, 5;
INSERT INTO user_daily SELECT (at AT TIME ZONE 'UTC')::date, key, owner,
    coalesce(end_user, owner), count(*), sum(input + cached_input), sum(cached_input), 0,
    sum(output), 0, sum(cost), 0, 0 FROM entries GROUP BY 1, 2, 3, 4;
INSERT INTO cost_monthly SELECT date_trunc('month', day)::date, key, owner, provider, model,
    sum(requests), sum(input_tokens), sum(cached_input_tokens), 0, sum(output_tokens), 0,
    sum(cost), 0, 0 FROM cost_daily GROUP BY 1, 2, 3, 4, 5;
INSERT INTO user_monthly SELECT date_trunc('month', day)::date, key, owner, end_user,
    sum(requests), sum(input_tokens), sum(cached_input_tokens), 0, sum(output_tokens), 0,
    sum(cost), 0, 0 FROM user_daily GROUP BY 1, 2, 3, 4;
ANALYZE;
