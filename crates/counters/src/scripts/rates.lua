-- Functions shared by the scripts of limits: counters of rates, each one hash. A limit with a burst
-- has a leaky bucket, any other a sliding window; llm-router-domain's `limit` has the same arithmetic
-- and its reasons. Follows clock.lua.
local SECOND, SECONDS, TTL_MS = 1000000, 61, 70000
local second = tonumber(time[1])

local function tenth(limit)
  return math.floor(limit / 10)
end

-- Bucket: level and moment of the last change.

local function open_bucket(counter, one)
  local stored = redis.call('HMGET', counter.key, 'level', 'at')
  local level, at = tonumber(stored[1]) or 0, tonumber(stored[2]) or now
  counter.used = math.max(level - math.max(now - at, 0) * counter.rate, 0)
  counter.one = one
end

local function bucket_wait(counter, cost)
  local over = counter.used - (counter.burst - math.min(cost, counter.burst)) * counter.one
  return over > 0 and math.ceil(over / counter.rate) or 0
end

local function close_bucket(counter)
  redis.call('HSET', counter.key, 'level', text(counter.used), 'at', text(now))
  redis.call('PEXPIRE', counter.key, math.ceil(counter.used / counter.rate / 1000) + 1000)
end

-- Window: a field for the amount of each second from `from` to `to`, their sum, and the room that is
-- set aside for a refused request: its size and end, what became free, what smaller requests took.

local function free(counter, amount)
  counter.used = math.max(counter.used - amount, 0)
  if counter.size > 0 then
    counter.freed = counter.freed + amount
  end
end

local function stored_seconds(counter, from, to)
  local names = {}
  for at = from, to do
    names[#names + 1] = text(at)
  end
  return names, #names > 0 and redis.call('HMGET', counter.key, unpack(names)) or {}
end

-- A clock that steps back takes the seconds with it: otherwise they would stay until it is there again.
local function step_back(counter, by)
  local names, amounts = stored_seconds(counter, counter.from, counter.to)
  local moved = {}
  for i, amount in ipairs(amounts) do
    if amount then
      moved[#moved + 1] = text(tonumber(names[i]) - by)
      moved[#moved + 1] = amount
    end
  end
  redis.call('HDEL', counter.key, unpack(names))
  if #moved > 0 then
    redis.call('HSET', counter.key, unpack(moved))
  end
  counter.from, counter.to = counter.from - by, counter.to - by
  counter.ends = counter.ends - by * SECOND
end

local function open_window(counter)
  local stored = redis.call('HMGET', counter.key,
    'used', 'from', 'to', 'size', 'ends', 'freed', 'passed')
  counter.used, counter.from = tonumber(stored[1]) or 0, tonumber(stored[2]) or second
  counter.to, counter.size = tonumber(stored[3]) or second, tonumber(stored[4]) or 0
  counter.ends, counter.freed = tonumber(stored[5]) or 0, tonumber(stored[6]) or 0
  counter.passed = tonumber(stored[7]) or 0
  if counter.to > second then
    step_back(counter, counter.to - second)
  end
  if counter.ends <= now then
    counter.size = 0
  end
  local gone = math.min(second - SECONDS, counter.to)
  if counter.from <= gone then
    local names, amounts = stored_seconds(counter, counter.from, gone)
    for _, amount in ipairs(amounts) do
      free(counter, tonumber(amount) or 0)
    end
    redis.call('HDEL', counter.key, unpack(names))
    counter.from = second - SECONDS + 1
  end
end

local function add(counter, amount, at)
  redis.call('HINCRBY', counter.key, text(at), text(amount))
  counter.used = counter.used + amount
  counter.from, counter.to = math.min(counter.from, at), math.max(counter.to, at)
end

-- Returns the time until `amount` of what is counted has left the window, or all of it.
local function time_to_free(counter, amount)
  if amount <= 0 then
    return 0
  end
  local names, amounts = stored_seconds(counter, counter.from, counter.to)
  local freed, leaves = 0, now
  for i, counted in ipairs(amounts) do
    if counted and freed < amount then
      freed = freed + tonumber(counted)
      leaves = (tonumber(names[i]) + SECONDS) * SECOND
    end
  end
  return math.max(leaves - now, 0)
end

-- Returns true if a request of `cost` may use the room that is set aside.
local function is_set_aside_for(counter, cost)
  return cost * 2 > counter.size
end

local function window_wait(counter, cost)
  local limit, used = counter.rate, counter.used
  local over = math.max(used + cost - limit - tenth(limit), used + 1 - limit, 0)
  local wait = time_to_free(counter, over)
  if counter.size > 0 then
    if not is_set_aside_for(counter, cost) then
      local short = (counter.passed + cost) * 2 - counter.freed
      wait = math.max(wait, math.min(time_to_free(counter, short), counter.ends - now))
    elseif over > 0 then
      local short = math.max(cost - tenth(limit), 0) * 2
      wait = math.max(wait, time_to_free(counter, short - counter.freed))
    end
  end
  return wait
end

local function set_aside(counter, cost, wait, grace)
  local limit = counter.rate
  if cost <= math.max(tenth(limit), 1) or cost - tenth(limit) > math.floor(limit / 2) then
    return
  end
  if counter.size == 0 then
    counter.size, counter.ends, counter.passed = cost, now + wait + grace, 0
    counter.freed = math.max(limit - counter.used, 0)
  elseif is_set_aside_for(counter, cost) then
    counter.size = math.max(counter.size, cost)
    counter.ends = math.max(counter.ends, now + wait + grace)
  end
end

local function close_window(counter)
  redis.call('HSET', counter.key, 'used', text(counter.used), 'from', text(counter.from),
    'to', text(counter.to), 'size', text(counter.size), 'ends', text(counter.ends),
    'freed', text(counter.freed), 'passed', text(counter.passed))
  redis.call('PEXPIRE', counter.key, TTL_MS)
end

-- Counters of either kind. A rate of 0 is no limit.

local function open(key, rate, burst, one)
  local counter = {key = key, rate = rate, burst = burst, used = 0}
  if rate > 0 and burst > 0 then
    open_bucket(counter, one)
  elseif rate > 0 then
    open_window(counter)
  end
  return counter
end

local function wait_for(counter, cost)
  if counter.rate == 0 or cost == 0 then
    return 0
  end
  return (counter.burst > 0 and bucket_wait or window_wait)(counter, cost)
end

local function charge(counter, cost)
  if counter.rate == 0 or cost == 0 then
    return
  elseif counter.burst > 0 then
    counter.used = counter.used + cost * counter.one
    return
  end
  if is_set_aside_for(counter, cost) then
    counter.size = 0
  else
    counter.passed = counter.passed + cost
  end
  add(counter, cost, second)
end

-- Counts `change` more, or takes back what was charged in the second `charged` and not used.
local function settle(counter, change, charged)
  if counter.rate == 0 or change == 0 then
    return
  elseif counter.burst > 0 then
    counter.used = math.max(counter.used + change * counter.one, 0)
  elseif change > 0 then
    counter.freed = math.max(counter.freed - change, 0)
    add(counter, change, second)
  elseif charged >= counter.from and charged <= counter.to then
    local amount = tonumber(redis.call('HGET', counter.key, text(charged))) or 0
    local back = math.min(amount, -change)
    redis.call('HINCRBY', counter.key, text(charged), text(-back))
    free(counter, back)
  end
end

local function close(counter)
  if counter.rate > 0 then
    (counter.burst > 0 and close_bucket or close_window)(counter)
  end
end
