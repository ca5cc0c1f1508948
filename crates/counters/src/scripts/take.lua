-- Admits a request on every line, or on none.
--   KEYS  epoch; then for each line: levels (hash), leases (sorted set)
--   ARGV  epoch known to the caller, a new epoch, lease, time to live in ms, level of one unit;
--         then for each line: rpm, burst, tpm, burst of tokens, concurrency (0: no limit),
--         requests, tokens, lower bounds of both levels as the caller knows them
-- Answers {0, epoch} if the epoch differs; else {1 admitted or 2 full, line, limit, wait in us,
-- then for each line: level of requests, level of tokens, requests in flight}.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local now_ms = math.floor(now / 1000)
local epoch = redis.call('GET', KEYS[1])
if not epoch then
  epoch = ARGV[2] .. '@' .. string.format('%.0f', now_ms)
  redis.call('SET', KEYS[1], epoch)
end
if epoch ~= ARGV[1] then
  return {0, epoch}
end
local lease, lease_ms, one = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local lines = {}
local answer = {1, 0, 0, 0}

local function level_of(level, at, rate, floor)
  level = (tonumber(level) or 0) - math.max(now - (tonumber(at) or now), 0) * rate
  return math.max(level, floor, 0)
end

local function refuse(line, ceiling, wait)
  if wait > answer[4] then
    answer[1], answer[2], answer[3], answer[4] = 2, line, ceiling, wait
  end
end

local function check(line, ceiling, level, rate, burst, cost)
  if rate > 0 and cost > 0 then
    local over = level - (burst - math.min(cost, burst)) * one
    if over > 0 then
      refuse(line, ceiling, math.ceil(over / rate))
    end
  end
end

for i = 1, (#KEYS - 1) / 2 do
  local a = 5 + (i - 1) * 9
  local l = {
    levels = KEYS[2 * i], leases = KEYS[2 * i + 1],
    rpm = tonumber(ARGV[a + 1]), burst = tonumber(ARGV[a + 2]),
    tpm = tonumber(ARGV[a + 3]), token_burst = tonumber(ARGV[a + 4]),
    concurrency = tonumber(ARGV[a + 5]),
    requests = tonumber(ARGV[a + 6]), tokens = tonumber(ARGV[a + 7]),
  }
  local stored = redis.call('HMGET', l.levels, 'r', 'ra', 't', 'ta')
  l.r = level_of(stored[1], stored[2], l.rpm, tonumber(ARGV[a + 8]))
  l.t = level_of(stored[3], stored[4], l.tpm, tonumber(ARGV[a + 9]))
  check(i, 1, l.r, l.rpm, l.burst, l.requests)
  check(i, 2, l.t, l.tpm, l.token_burst, l.tokens)
  l.calls = 0
  if l.concurrency > 0 then
    redis.call('ZREMRANGEBYSCORE', l.leases, '-inf', now_ms)
    l.calls = redis.call('ZCARD', l.leases)
    if l.calls >= l.concurrency then
      refuse(i, 3, 1000000)
    end
  end
  lines[i] = l
end

for i, l in ipairs(lines) do
  if answer[1] == 1 then
    l.r = l.r + l.requests * one
    l.t = l.t + l.tokens * one
    local lasts = 0
    if l.rpm > 0 then
      redis.call('HSET', l.levels, 'r', string.format('%.0f', l.r), 'ra', string.format('%.0f', now))
      lasts = l.r / l.rpm
    end
    if l.tpm > 0 then
      redis.call('HSET', l.levels, 't', string.format('%.0f', l.t), 'ta', string.format('%.0f', now))
      lasts = math.max(lasts, l.t / l.tpm)
    end
    if l.rpm > 0 or l.tpm > 0 then
      redis.call('PEXPIRE', l.levels, math.ceil(lasts / 1000) + 1000)
    end
    if l.concurrency > 0 then
      redis.call('ZADD', l.leases, now_ms + lease_ms, lease)
      redis.call('PEXPIRE', l.leases, lease_ms + 1000)
      l.calls = l.calls + 1
    end
  end
  answer[#answer + 1] = l.r
  answer[#answer + 1] = l.t
  answer[#answer + 1] = l.calls
end
return answer
