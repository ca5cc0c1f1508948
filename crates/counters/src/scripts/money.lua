-- Functions shared by the scripts of budgets. Follows clock.lua. Money is a pair of numbers, whole USD and units of
-- 10^-15 USD: Lua's numbers are doubles, and a single one would lose digits.
local FRACTION, DAY_MS = 1e15, 86400000

local function pack(whole, part)
  return text(whole) .. ' ' .. text(part)
end

local function unpack_money(packed)
  local whole, part = string.match(packed or '', '^(%S+) (%S+)$')
  return tonumber(whole) or 0, tonumber(part) or 0
end

local function add(whole, part, more_whole, more_part)
  whole, part = whole + more_whole, part + more_part
  if part >= FRACTION then
    return whole + 1, part - FRACTION
  elseif part < 0 then
    return whole - 1, part + FRACTION
  end
  return whole, part
end

local function more(whole, part, than_whole, than_part)
  return whole > than_whole or (whole == than_whole and part > than_part)
end

-- Reads a line: its hash, its reservations, the totals spent and reserved.
local function open_line(hash, holds)
  local stored = redis.call('HMGET', hash, 'known', 'spent', 'reserved')
  local line = {hash = hash, holds = holds, known = stored[1] and true or false}
  line.spent, line.spent_part = unpack_money(stored[2])
  line.reserved, line.reserved_part = unpack_money(stored[3])
  return line
end

local function close_line(line)
  if line.known then
    redis.call('HSET', line.hash, 'known', '1')
  end
  redis.call('HSET', line.hash, 'spent', pack(line.spent, line.spent_part),
    'reserved', pack(line.reserved, line.reserved_part))
  -- After that, earlier spending is read from the ledger again.
  redis.call('PEXPIRE', line.hash, 2 * DAY_MS)
  redis.call('PEXPIRE', line.holds, 2 * DAY_MS)
end

local function release(line, id)
  local whole, part = unpack_money(redis.call('HGET', line.hash, 'hold:' .. id))
  line.reserved, line.reserved_part = add(line.reserved, line.reserved_part, -whole, -part)
  redis.call('HDEL', line.hash, 'hold:' .. id)
  redis.call('ZREM', line.holds, id)
end

local function release_expired(line)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', line.holds, '-inf', now_ms, 'LIMIT', 0, 1000)) do
    release(line, id)
  end
end

local function hold(line, id, whole, part, lasts)
  release(line, id)
  line.reserved, line.reserved_part = add(line.reserved, line.reserved_part, whole, part)
  redis.call('HSET', line.hash, 'hold:' .. id, pack(whole, part))
  redis.call('ZADD', line.holds, now_ms + lasts, id)
end

-- Records the spending of a run. It is a total that only grows, so repeated or late reports change
-- nothing.
local function record_spending(line, run, whole, part)
  local known, known_part = unpack_money(redis.call('HGET', line.hash, 'run:' .. run))
  if more(whole, part, known, known_part) then
    local grown, grown_part = add(whole, part, -known, -known_part)
    line.spent, line.spent_part = add(line.spent, line.spent_part, grown, grown_part)
    redis.call('HSET', line.hash, 'run:' .. run, pack(whole, part))
  end
end

local function append_totals(line, answer)
  for _, number in ipairs({line.spent, line.spent_part, line.reserved, line.reserved_part}) do
    answer[#answer + 1] = text(number)
  end
end

-- Returns true if this call was sent over a connection that its replica has since replaced.
local function is_stale(connection)
  return (tonumber(redis.call('HGET', KEYS[2], 'connection')) or 0) > tonumber(connection)
end

