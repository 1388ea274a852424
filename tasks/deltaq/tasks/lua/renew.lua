#!lua flags=allow-oom
-- Prolong a lease that is still ours.
--
-- KEYS  lease
-- ARGV  token, time to live in milliseconds
-- Returns 1, or 0 when it is not ours any more.
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
