#!lua flags=allow-oom
-- Look through some of the tables for what waits in their lanes; changes nothing.
--
-- KEYS  tables
-- ARGV  cursor ('0' to begin), how many tables to look at (about), then the names of the lanes
-- Returns the next cursor ('0' at the end), the time (ms), then of each lane in which requests
--         wait: table, lane, requests, bytes, when the first was submitted (ms; 0 if it does not
--         say), and 1 if the table is to be tried again, else 0.
local time = redis.call('TIME')
local cursor, tables = unpack(redis.call('SSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2]))
local found = {cursor, time[1] * 1000 + math.floor(time[2] / 1000)}
for _, name in ipairs(tables) do
  local prefix = 'dq:{' .. name .. '}:'
  for i = 3, #ARGV do
    local lane = ARGV[i]
    local requests = redis.call('XLEN', prefix .. 'inbox:' .. lane)
    if requests > 0 then
      local head = redis.call('XRANGE', prefix .. 'inbox:' .. lane, '-', '+', 'COUNT', 1)[1]
      local bytes, retry = unpack(redis.call('HMGET', prefix .. 'seq', 'bytes:' .. lane, 'retry'))
      local read, request = pcall(cjson.decode, head[2][2])
      local submitted = read and type(request) == 'table' and tonumber(request.submitted_at_ms)
      local row = {name, lane, requests, tonumber(bytes) or 0, submitted or 0, retry and 1 or 0}
      for _, value in ipairs(row) do found[#found + 1] = value end
    end
  end
end
return found
