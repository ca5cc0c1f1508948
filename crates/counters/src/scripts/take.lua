-- Admits a request on every line, or on none. Follows rates.lua and epoch.lua.
--   KEYS  those of epoch.lua; then for each line: counter of requests, counter of tokens (hashes),
--         leases (sorted set)
--   ARGV  those of epoch.lua, lease, time to live in ms, level of one unit, time for which room
--         stays set aside beyond its wait; then for each line: rpm, its burst (0: none),
--         tpm, its burst, concurrency (0: no limit), requests, tokens, 1 if the amounts of the
--         windows' seconds are wanted; then, for requests and for tokens, what the caller knows to be
--         counted: number of amounts, then for each, newest first: age of its second, amount
-- Answers {0, epoch} if the epoch differs; else {1 admitted or 2 full, line, limit, wait in us,
-- second, then for each line: requests counted, tokens counted, requests in flight, and for requests
-- and for tokens a list of ages and amounts, newest first, empty if not wanted}.
local epoch = changed_epoch()
if epoch then
  return {0, epoch}
end
local lease, lease_ms, one, grace = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local lines, answer, a = {}, {1, 0, 0, 0, second}, 8

local function argument()
  a = a + 1
  return tonumber(ARGV[a])
end

local function refuse(line, ceiling, wait)
  if wait > answer[4] then
    answer[1], answer[2], answer[3], answer[4] = 2, line, ceiling, wait
  end
end

-- Raises a counter to the amounts in the arguments: the seconds of a window, or a bucket's level.
local function raise(counter)
  local amounts, sum = {}, 0
  for i = 1, argument() do
    amounts[i] = {age = argument(), amount = argument()}
    sum = sum + amounts[i].amount
  end
  if counter.rate > 0 and counter.burst > 0 then
    counter.used = math.max(counter.used, sum)
  elseif counter.rate > 0 then
    local missing = sum - counter.used
    for _, known in ipairs(amounts) do
      local part = math.min(missing, known.amount)
      if part > 0 and known.age < SECONDS then
        add(counter, part, second - known.age)
        missing = missing - part
      end
    end
  end
end

local function check(line, ceiling, counter, cost)
  local wait = wait_for(counter, cost)
  refuse(line, ceiling, wait)
  if wait > 0 and counter.burst == 0 then
    set_aside(counter, cost, wait, grace)
  end
end

for i = 1, (#KEYS - 2) / 3 do
  local key = 3 * i
  local line = {leases = KEYS[key + 2], calls = 0}
  line.r = open(KEYS[key], argument(), argument(), one)
  line.t = open(KEYS[key + 1], argument(), argument(), one)
  line.concurrency, line.requests, line.tokens = argument(), argument(), argument()
  line.wanted = argument() == 1
  raise(line.r)
  raise(line.t)
  check(i, 1, line.r, line.requests)
  check(i, 2, line.t, line.tokens)
  if line.concurrency > 0 then
    redis.call('ZREMRANGEBYSCORE', line.leases, '-inf', now_ms)
    line.calls = redis.call('ZCARD', line.leases)
    if line.calls >= line.concurrency then
      refuse(i, 3, 1000000)
    end
  end
  lines[i] = line
end

local function seconds_of(line, counter)
  local list = {}
  if line.wanted and counter.rate > 0 and counter.burst == 0 then
    local names, amounts = stored_seconds(counter, counter.from, counter.to)
    for i = #names, 1, -1 do
      if tonumber(amounts[i] or 0) > 0 then
        list[#list + 1] = second - tonumber(names[i])
        list[#list + 1] = tonumber(amounts[i])
      end
    end
  end
  return list
end

for _, line in ipairs(lines) do
  if answer[1] == 1 then
    charge(line.r, line.requests)
    charge(line.t, line.tokens)
    if line.concurrency > 0 then
      redis.call('ZADD', line.leases, now_ms + lease_ms, lease)
      redis.call('PEXPIRE', line.leases, lease_ms + 1000)
      line.calls = line.calls + 1
    end
  end
  close(line.r)
  close(line.t)
  for _, part in ipairs({line.r.used, line.t.used, line.calls,
      seconds_of(line, line.r), seconds_of(line, line.t)}) do
    answer[#answer + 1] = part
  end
end
return answer
