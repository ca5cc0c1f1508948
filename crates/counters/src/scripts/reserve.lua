-- Reserves an amount on every line, or on none. Follows money.lua and epoch.lua.
--   KEYS  those of epoch.lua; then for each line: budget (hash), reservations (sorted set)
--   ARGV  those of epoch.lua, connection number, run, reservation id, id of the replaced one or '',
--         the amount's two numbers, time to live in ms; then for each line: two numbers of its
--         ceiling, two of the run's spending
-- Answers {'epoch', epoch} if the epoch has changed, {'void'} for a stale connection, {'unknown'} if
-- a line's earlier spending is unknown, or {'held' or 'full', line, then for each line: spent and
-- reserved, two numbers each}.
local epoch = changed_epoch()
if epoch then
  return {'epoch', epoch}
elseif is_stale(ARGV[5]) then
  return {'void'}
end
local run, id, replaces = ARGV[6], ARGV[7], ARGV[8]
local whole, part, lasts = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local lines, full = {}, 0
for i = 1, (#KEYS - 2) / 2 do
  lines[i] = open_line(KEYS[2 * i + 1], KEYS[2 * i + 2])
  if not lines[i].known then
    return {'unknown'}
  end
end
for i, line in ipairs(lines) do
  local a = 11 + (i - 1) * 4
  release_expired(line)
  release(line, id)
  if replaces ~= '' then
    release(line, replaces)
  end
  record_spending(line, run, tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4]))
  local used, used_part = add(line.spent, line.spent_part, line.reserved, line.reserved_part)
  used, used_part = add(used, used_part, whole, part)
  if full == 0 and more(used, used_part, tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])) then
    full = i
  end
end
local answer = {full == 0 and 'held' or 'full', text(full)}
for _, line in ipairs(lines) do
  -- A refusal is answered with the totals without this reservation.
  if full == 0 then
    hold(line, id, whole, part, lasts)
  end
  close_line(line)
  append_totals(line, answer)
end
return answer
