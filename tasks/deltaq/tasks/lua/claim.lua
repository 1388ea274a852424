#!lua flags=allow-oom
-- Declare that the requests first..last of a lane are about to be applied.
--
-- KEYS  lease, inbox, seq
-- ARGV  token, lane, first sequence, last sequence, number of requests between them
-- Returns the attempt, from 1 (how often a claim began with this first sequence);
--         0 when the lease is not ours; -1 when a request was cancelled meanwhile.
local lease, inbox, seq = unpack(KEYS)
local token, lane, first, last, count = unpack(ARGV)
if redis.call('HGET', lease, 'token') ~= token then return 0 end
if #redis.call('XRANGE', inbox, first .. '-0', last .. '-0') ~= tonumber(count) then return -1 end

local claimed, began = unpack(redis.call('HMGET', seq, 'claimed:' .. lane, 'began:' .. lane))
if tonumber(last) > tonumber(claimed or 0) then
  redis.call('HSET', seq, 'claimed:' .. lane, last)
end
if began ~= first then
  redis.call('HSET', seq, 'began:' .. lane, first, 'attempt:' .. lane, 1)
  return 1
end
return redis.call('HINCRBY', seq, 'attempt:' .. lane, 1)
