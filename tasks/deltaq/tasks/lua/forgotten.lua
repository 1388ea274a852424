#!lua flags=no-writes
-- Look through some of the tables for lanes that have requests although nobody holds a lease.
--
-- KEYS  tables
-- ARGV  cursor ('0' to begin), how many tables to look at (about), then the names of the lanes
-- Returns the next cursor ('0' at the end), then table and lane of each find, in turn.
--
-- A table that is to be tried again is left alone until it is time.
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
    for i = 3, #ARGV do
      if redis.call('XLEN', prefix .. 'inbox:' .. ARGV[i]) > 0 then
        found[#found + 1] = table_name
        found[#found + 1] = ARGV[i]
      end
    end
  end
end
return found
