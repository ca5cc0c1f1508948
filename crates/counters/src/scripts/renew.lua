-- Renews leases of calls in flight.
--   KEYS  sorted sets of leases, one for each lease in ARGV
--   ARGV  time to live in ms, then the leases
local time = redis.call('TIME')
local now_ms = math.floor((time[1] * 1000000 + time[2]) / 1000)
local length = tonumber(ARGV[1])
for i, key in ipairs(KEYS) do
  redis.call('ZADD', key, now_ms + length, ARGV[i + 1])
  redis.call('PEXPIRE', key, length + 1000)
end
return 1
