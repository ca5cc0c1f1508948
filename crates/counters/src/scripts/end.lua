-- Ends a request: removes its lease and replaces reserved by used tokens.
--   KEYS  for each line: levels (hash), leases (sorted set)
--   ARGV  lease, level of one unit; then for each line: tpm, used minus reserved tokens
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local one = tonumber(ARGV[2])
for i = 1, #KEYS / 2 do
  local levels, leases = KEYS[2 * i - 1], KEYS[2 * i]
  redis.call('ZREM', leases, ARGV[1])
  local tpm, change = tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2])
  if tpm > 0 and change ~= 0 then
    local stored = redis.call('HMGET', levels, 't', 'ta')
    local level = (tonumber(stored[1]) or 0) - math.max(now - (tonumber(stored[2]) or now), 0) * tpm
    level = math.max(math.max(level, 0) + change * one, 0)
    redis.call('HSET', levels, 't', string.format('%.0f', level), 'ta', string.format('%.0f', now))
    local lasts = math.ceil(level / tpm / 1000) + 1000
    if redis.call('PTTL', levels) < lasts then
      redis.call('PEXPIRE', levels, lasts)
    end
  end
end
return 1
