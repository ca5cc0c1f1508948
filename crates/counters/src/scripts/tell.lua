-- Notes what runs have spent of lines, and lets a reservation go or stand. Again changes nothing.
--   KEYS  fence; then for each line: budget (hash), reservations (sorted set)
--   ARGV  the connection, 'none', 'release' or 'hold', the reservation, the amount's two numbers,
--         for how many ms; then for each line: 1 if this is all that is known of it, how many runs,
--         then for each run: its name and its spending's two numbers
-- Answers {'void'}, or {'told', then for each line: 1 if it is known what was spent before, spent
-- and reserved, two numbers each}.
if is_void(KEYS[1], ARGV[1]) then
  return {'void'}
end
local change, id, a = ARGV[2], ARGV[3], 7
local answer = {'told'}
for i = 1, (#KEYS - 1) / 2 do
  local line = open_line(KEYS[2 * i], KEYS[2 * i + 1])
  let_go_expired(line)
  if change == 'release' then
    let_go(line, id)
  elseif change == 'hold' then
    hold(line, id, tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]))
  end
  line.known = line.known or ARGV[a] == '1'
  local runs = tonumber(ARGV[a + 1])
  a = a + 2
  for _ = 1, runs do
    note_spent(line, ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]))
    a = a + 3
  end
  close_line(line)
  answer[#answer + 1] = line.known and '1' or '0'
  tell_of(line, answer)
end
return answer
