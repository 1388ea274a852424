#!lua flags=allow-oom
-- Note that a table's commit is to be tried again, and when.
--
-- KEYS  lease, seq
-- ARGV  token, error, milliseconds before the second try, most milliseconds between two tries,
--       a random part of the pause (0.5 to 1)
-- Returns the milliseconds to wait, or -1 when the lease is not ours any more.
--
-- The note ends with the next acknowledgement.
local lease, seq = unpack(KEYS)
local token, problem, first, longest, part = unpack(ARGV)
if redis.call('HGET', lease, 'token') ~= token then return -1 end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HGET', seq, 'retry')
local retry = known and cjson.decode(known) or {since_ms = now, tries = 0}
retry.tries = retry.tries + 1
-- Waiting for Spark, at no pause, is no reason to wait longer for anything else.
if tonumber(longest) > 0 then retry.failures = (retry.failures or 0) + 1 end
local pause = math.min(first * 2 ^ math.min(retry.failures or 0, 30), tonumber(longest))
pause = math.floor(pause * part)
retry.error = problem
retry.next_ms = now + pause
redis.call('HSET', seq, 'retry', cjson.encode(retry))
return pause
