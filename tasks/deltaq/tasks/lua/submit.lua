#!lua
-- Accept a request once: give it the next sequence of its lane and put it in the inbox.
--
-- KEYS  request, inbox, seq, wake, tables
-- ARGV  request (JSON), digest, lane, table, size in bytes,
--       limit of waiting requests, limit of waiting bytes, epoch to use if there is none,
--       milliseconds until it expires ('' for never),
--       1 to forget that it failed or was cancelled, if so, and to accept it anew
-- Returns one of
--       accepted, sequence, 1 if the caller must send a wake-up
--       known, sequence, state, outcome ('' while queued)
--       conflict
--       expired
--       full, waiting requests, waiting bytes
--
-- A second run after a lost reply finds the request known.
local request, inbox, seq, wake, tables = unpack(KEYS)
local body, digest, lane, table_name, size = unpack(ARGV, 1, 5)
local max_requests, max_bytes, new_epoch, left, anew = unpack(ARGV, 6, 10)

local known = redis.call('HMGET', request, 'digest', 'sequence', 'state', 'outcome')
local ended = anew == '1' and (known[3] == 'failed' or known[3] == 'cancelled')
if known[2] and not ended then
  -- What was read back from the table's log has no digest.
  if known[1] and known[1] ~= digest then return {'conflict'} end
  return {'known', tonumber(known[2]), known[3], known[4] or ''}
end

local fields = {'r', body}
if left ~= '' then
  if tonumber(left) <= 0 then return {'expired'} end
  local now = redis.call('TIME')
  fields[3] = 'd'
  fields[4] = string.format('%d', now[1] * 1000 + math.floor(now[2] / 1000) + left)
end

local waiting = redis.call('XLEN', inbox)
local bytes = tonumber(redis.call('HGET', seq, 'bytes:' .. lane) or 0)
if waiting >= tonumber(max_requests) or (waiting > 0 and bytes + size > tonumber(max_bytes)) then
  return {'full', waiting, bytes}
end

if ended then redis.call('DEL', request) end
redis.call('HSETNX', seq, 'epoch', new_epoch)
local sequence = redis.call('HINCRBY', seq, lane, 1)
redis.call('XADD', inbox, sequence .. '-0', unpack(fields))
redis.call('HINCRBY', seq, 'bytes:' .. lane, size)
redis.call('HSET', request, 'state', 'queued', 'digest', digest, 'lane', lane, 'sequence', sequence)
redis.call('SADD', tables, table_name)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return {'accepted', sequence, redis.call('HSETNX', wake, lane, now)}
