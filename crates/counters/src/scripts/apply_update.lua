-- Records the spending of runs and releases or holds a reservation. Idempotent.
--   KEYS  fence; then for each line: budget (hash), reservations (sorted set)
--   ARGV  connection number, 'none', 'release' or 'hold', reservation id, the amount's two numbers,
--         time to live in ms; then for each line: 1 if these are the totals of all runs, number of
--         runs, then for each run: its id and the two numbers of its spending
-- Answers {'void'} for a stale connection, or {'applied', then for each line: 1 if its earlier
-- spending is known, spent and reserved, two numbers each}.
if is_stale(KEYS[1], ARGV[1]) then
  return {'void'}
end
local change, id, a = ARGV[2], ARGV[3], 7
local answer = {'applied'}
for i = 1, (#KEYS - 1) / 2 do
  local line = open_line(KEYS[2 * i], KEYS[2 * i + 1])
  release_expired(line)
  if change == 'release' then
    release(line, id)
  elseif change == 'hold' then
    hold(line, id, tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]))
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
