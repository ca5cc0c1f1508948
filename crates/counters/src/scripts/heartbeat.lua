-- Announces a replica and answers {epoch, number of replicas, age of the epoch in ms}. Follows
-- epoch.lua.
--   KEYS  those of epoch.lua, replicas (sorted set)
--   ARGV  those of epoch.lua, the replica, its time to live in ms (0: it leaves), its connection number
changed_epoch()
local epoch = redis.call('GET', KEYS[1])
if tonumber(ARGV[6]) == 0 then
  redis.call('ZREM', KEYS[3], ARGV[5])
else
  redis.call('ZADD', KEYS[3], now_ms + ARGV[6], ARGV[5])
end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now_ms)
-- Calls sent over an earlier connection are void from now on.
redis.call('HSET', KEYS[2], 'connection', ARGV[7])
redis.call('EXPIRE', KEYS[2], 86400)
local created = tonumber(string.match(epoch, '@(%d+)$')) or 0
return {epoch, redis.call('ZCARD', KEYS[3]), math.max(now_ms - created, 0)}
