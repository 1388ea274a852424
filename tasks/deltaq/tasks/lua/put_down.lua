#!lua flags=allow-oom
-- End the claim of a request of which a slice is done and more is to do, and keep how far it came.
--
-- KEYS  lease, seq
-- ARGV  token, lane, how far it came (JSON)
-- Returns 1, or 0 when the lease is not ours any more (the next holder goes on).
--
-- A slice that is done shows that the request is not what workers died of, and no slice counts
-- as an attempt but the first.
local lease, seq = unpack(KEYS)
local token, lane, slices = unpack(ARGV)
if redis.call('HGET', lease, 'token') ~= token then return 0 end
if redis.call('HGET', seq, 'open:' .. lane) == token then
  redis.call('HINCRBY', seq, 'attempt:' .. lane, -1)
end
redis.call('HDEL', seq, 'open:' .. lane, 'crashed:' .. lane, 'cause:' .. lane, 'retry')
redis.call('HSET', seq, 'slices', slices)
return 1
