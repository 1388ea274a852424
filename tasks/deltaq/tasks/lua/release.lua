#!lua flags=allow-oom
-- Give a lease back, in one step with looking whether work is left: no wake-up gets lost.
--
-- KEYS  lease, wake, tables, seq, then the inbox of each lane
-- ARGV  token, table, 1 to release even though work is left, number of lanes the holder serves,
--       then the names of all lanes, those it serves first
-- Returns 'lost'; or 'busy' (not released, a lane it serves has work); or 'released';
--         each but 'lost' followed by the lanes that have work.
local lease, wake, tables, seq = unpack(KEYS, 1, 4)
local token, table_name, force, served = unpack(ARGV, 1, 4)
if redis.call('HGET', lease, 'token') ~= token then return {'lost'} end

local waiting, busy = {}, false
for i = 5, #ARGV do
  if redis.call('XLEN', KEYS[i]) > 0 then
    waiting[#waiting + 1] = ARGV[i]
    busy = busy or i - 4 <= tonumber(served)
  end
end
if busy and force ~= '1' then return {'busy', unpack(waiting)} end

redis.call('DEL', lease)
redis.call('HDEL', seq, 'held')
for i = 5, #ARGV do
  if redis.call('XLEN', KEYS[i]) == 0 then redis.call('HDEL', wake, ARGV[i]) end
end
if #waiting == 0 then redis.call('SREM', tables, table_name) end
return {'released', unpack(waiting)}
