#!lua flags=allow-oom
-- Put requests that Redis has forgotten into a lane, behind a place and before all after it.
--
-- KEYS  lease, inbox, seq, tables, then the hash of each request
-- ARGV  token, lane, table, the place (a sequence), floor of new sequences, prefix of the request
--       hashes, then body, digest, size in bytes and milliseconds until it expires ('' for never) of each
-- Returns how many were unknown and are in the lane now, and the sequence of the last of them;
--         or -1 when the lease is not ours any more.
--
-- A stream only grows at its end, so what comes after the place moves there, in order.
local lease, inbox, seq, tables = unpack(KEYS, 1, 4)
local token, lane, table_name, place, floor, prefix = unpack(ARGV, 1, 6)
if redis.call('HGET', lease, 'token') ~= token then return {-1, 0} end

local sequence = math.max(tonumber(redis.call('HGET', seq, lane) or 0), tonumber(floor))
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local inserted, bytes, last = 0, 0, tonumber(place)

local after = redis.call('XRANGE', inbox, '(' .. place .. '-0', '+')
for i = 5, #KEYS do
  local body, digest, size, left = unpack(ARGV, 4 * i - 13, 4 * i - 10)
  if redis.call('EXISTS', KEYS[i]) == 0 then
    sequence = sequence + 1
    local fields = {'r', body}
    if left ~= '' then
      fields[3] = 'd'
      fields[4] = string.format('%d', now + left)
    end
    redis.call('XADD', inbox, sequence .. '-0', unpack(fields))
    redis.call('HSET', KEYS[i],
      'state', 'queued', 'digest', digest, 'lane', lane, 'sequence', sequence)
    inserted, bytes, last = inserted + 1, bytes + size, sequence
  end
end
if inserted == 0 then return {0, last} end

for _, entry in ipairs(after) do
  sequence = sequence + 1
  redis.call('XDEL', inbox, entry[1])
  redis.call('XADD', inbox, sequence .. '-0', unpack(entry[2]))
  local ok, request = pcall(cjson.decode, entry[2][2])
  if ok and request.request_id then
    redis.call('HSET', prefix .. request.request_id, 'sequence', sequence)
  end
end
redis.call('HSET', seq, lane, sequence)
redis.call('HINCRBY', seq, 'bytes:' .. lane, bytes)
redis.call('SADD', tables, table_name)
return {inserted, last}
