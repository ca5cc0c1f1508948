-- Ends a request: removes its lease and replaces reserved by used tokens. Follows rates.lua.
--   KEYS  for each line: counter of tokens (hash), leases (sorted set)
--   ARGV  lease, level of one unit, second in which the request was admitted; then for each line:
--         tpm, its burst, used minus reserved tokens
local one, charged = tonumber(ARGV[2]), tonumber(ARGV[3])
for i = 1, #KEYS / 2 do
  local a = 3 * i
  redis.call('ZREM', KEYS[2 * i], ARGV[1])
  local change = tonumber(ARGV[a + 3])
  if change ~= 0 then
    local counter = open(KEYS[2 * i - 1], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), one)
    settle(counter, change, charged)
    close(counter)
  end
end
return 1
