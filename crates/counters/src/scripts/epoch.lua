-- Checks that the server has the data that the caller knows. Follows money.lua or rates.lua.
--   KEYS  epoch, replica (hash: its connection number, the largest number of its calls)
--   ARGV  epoch known to the caller, a new epoch, number of this call, number of the last call that
--         was answered
-- Returns the epoch if it is another one: what the replicas know must be reported again.
local function changed_epoch()
  local epoch = redis.call('GET', KEYS[1])
  local call = tonumber(redis.call('HGET', KEYS[2], 'call')) or 0
  -- A server that doesn't know a call that was answered took over from one that was ahead of it.
  if not epoch or call < tonumber(ARGV[4]) then
    epoch = ARGV[2] .. '@' .. text(now_ms)
    redis.call('SET', KEYS[1], epoch)
  end
  redis.call('HSET', KEYS[2], 'call', text(math.max(call, tonumber(ARGV[3]))))
  if call == 0 then
    redis.call('EXPIRE', KEYS[2], 86400)
  end
  return epoch ~= ARGV[1] and epoch or nil
end
