-- The server's clock, and text of whole numbers. Precedes all scripts that check the epoch.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local now_ms = math.floor(now / 1000)

local function text(number)
  return string.format('%.0f', number)
end

