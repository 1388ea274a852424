#!lua flags=no-writes
-- Look through some of the tables for lanes that have requests although nobody holds a lease.
--
-- KEYS  tables
-- ARGV  cursor ('0' to begin), how many tables to look at (about), then the names of the lanes
-- Returns the next cursor ('0' at the end), then table and lane of each find, in turn.
local cursor, tables = unpack(redis.call('SSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2]))
local found = {cursor}
for _, table_name in ipairs(tables) do
  local prefix = 'dq:{' .. table_name .. '}:'
  if redis.call('EXISTS', prefix .. 'lease') == 0 then
    for i = 3, #ARGV do
      if redis.call('XLEN', prefix .. 'inbox:' .. ARGV[i]) > 0 then
        found[#found + 1] = table_name
        found[#found + 1] = ARGV[i]
      end
    end
  end
end
return found
