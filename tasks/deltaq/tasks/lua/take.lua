#!lua flags=allow-oom
-- Take a table's lease unless another holds it. The same token again changes nothing.
--
-- KEYS  lease, seq
-- ARGV  token, time to live in milliseconds, name of the holder
-- Returns the fence and the epoch ('' before the first submission); fence 0 if held by another.
local lease, seq = KEYS[1], KEYS[2]
local token, ttl, holder = unpack(ARGV)
local owner = redis.call('HGET', lease, 'token')
if owner and owner ~= token then return {0, ''} end
if not owner then
  local fence = redis.call('HINCRBY', seq, 'fence', 1)
  redis.call('HSET', lease, 'token', token, 'fence', fence, 'holder', holder)
end
redis.call('PEXPIRE', lease, ttl)
return {
  tonumber(redis.call('HGET', lease, 'fence')),
  redis.call('HGET', seq, 'epoch') or '',
}
