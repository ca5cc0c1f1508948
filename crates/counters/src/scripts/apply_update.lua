-- Records the spending of runs and releases or holds a reservation. Idempotent. Follows money.lua and
-- epoch.lua.
--   KEYS  those of epoch.lua; then for each line: budget (hash), reservations (sorted set)
--   ARGV  those of epoch.lua, connection number, 'none', 'release' or 'hold', reservation id, the
--         amount's two numbers, time to live in ms; then for each line: 1 if these are the totals of
--         all runs, number of runs, then for each run: its id and the two numbers of its spending
-- Answers {'epoch', epoch} if the epoch has changed, {'void'} for a stale connection, or {'applied',
-- then for each line: 1 if its earlier spending is known, spent and reserved, two numbers each}.
local epoch = changed_epoch()
if epoch then
  return {'epoch', epoch}
elseif is_stale(ARGV[5]) then
  return {'void'}
end
local change, id, a = ARGV[6], ARGV[7], 11
local answer = {'applied'}
for i = 1, (#KEYS - 2) / 2 do
  local line = open_line(KEYS[2 * i + 1], KEYS[2 * i + 2])
  release_expired(line)
  if change == 'release' then
    release(line, id)
  elseif change == 'hold' then
    hold(line, id, tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]))
  end
  line.known = line.known or ARGV[a] == '1'
  local runs = tonumber(ARGV[a + 1])
  a = a + 2
  for _ = 1, runs do
    record_spending(line, ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]))
    a = a + 3
  end
  close_line(line)
  answer[#answer + 1] = line.known and '1' or '0'
  append_totals(line, answer)
end
return answer
