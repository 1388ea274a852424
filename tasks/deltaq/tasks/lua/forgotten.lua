#!lua flags=allow-oom
-- Look through some of the tables for lanes that have requests, no committer, and no wake-up.
--
-- KEYS  tables
-- ARGV  cursor ('0' to begin), how many tables to look at (about), then name and patience of each
--       lane: for so many milliseconds a wake-up that was sent may be under way
-- Returns the next cursor ('0' at the end), then table and lane of each find, in turn. The caller
--         rings them: they count as rung from now on.
--
-- A table that is to be tried again is left alone until it is time. One without requests is taken
-- off the list: its committer lost the lease before it could.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function is_due(retry)
  return not retry or cjson.decode(retry).next_ms <= now
end

local cursor, tables = unpack(redis.call('SSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2]))
local found = {cursor}
for _, table_name in ipairs(tables) do
  local prefix = 'dq:{' .. table_name .. '}:'
  if redis.call('EXISTS', prefix .. 'lease') == 0
    and is_due(redis.call('HGET', prefix .. 'seq', 'retry')) then
    local waiting = false
    for i = 3, #ARGV, 2 do
      local lane, patience = ARGV[i], tonumber(ARGV[i + 1])
      if redis.call('XLEN', prefix .. 'inbox:' .. lane) > 0 then
        waiting = true
        local rung = tonumber(redis.call('HGET', prefix .. 'wake', lane) or 0)
        if now - rung >= patience then
          redis.call('HSET', prefix .. 'wake', lane, now)
          found[#found + 1] = table_name
          found[#found + 1] = lane
        end
      end
    end
    if not waiting then
      redis.call('SREM', KEYS[1], table_name)
      redis.call('DEL', prefix .. 'wake')
    end
  end
end
return found
