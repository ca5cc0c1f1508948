-- Announces a replica and answers {epoch, number of replicas, age of the epoch in ms}.
--   KEYS  epoch, replicas (sorted set), the replica's fence
--   ARGV  a new epoch, the replica, its time to live in ms (0: it leaves), its connection number
local time = redis.call('TIME')
local now_ms = math.floor((time[1] * 1000000 + time[2]) / 1000)
local epoch = redis.call('GET', KEYS[1])
if not epoch then
  epoch = ARGV[1] .. '@' .. string.format('%.0f', now_ms)
  redis.call('SET', KEYS[1], epoch)
end
if tonumber(ARGV[3]) == 0 then
  redis.call('ZREM', KEYS[2], ARGV[2])
else
  redis.call('ZADD', KEYS[2], now_ms + ARGV[3], ARGV[2])
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now_ms)
-- Calls sent over an earlier connection are void from now on.
redis.call('SET', KEYS[3], ARGV[4], 'EX', 86400)
local created = tonumber(string.match(epoch, '@(%d+)$')) or 0
return {epoch, redis.call('ZCARD', KEYS[2]), math.max(now_ms - created, 0)}
