-- Says that a replica is there, and answers {epoch, replicas}.
--   KEYS  epoch, replicas (sorted set)
--   ARGV  a new epoch, the replica, for how many ms it counts (0: it leaves)
local time = redis.call('TIME')
local now_ms = math.floor((time[1] * 1000000 + time[2]) / 1000)
local epoch = redis.call('GET', KEYS[1])
if not epoch then
  epoch = ARGV[1]
  redis.call('SET', KEYS[1], epoch)
end
if tonumber(ARGV[3]) == 0 then
  redis.call('ZREM', KEYS[2], ARGV[2])
else
  redis.call('ZADD', KEYS[2], now_ms + ARGV[3], ARGV[2])
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now_ms)
return {epoch, redis.call('ZCARD', KEYS[2])}
