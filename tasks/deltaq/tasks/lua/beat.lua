#!lua flags=allow-oom
-- Note that a worker is alive, and forget those that have been silent for long.
--
-- KEYS  workers, worker
-- ARGV  name, what it tells of itself (JSON), milliseconds for which a silent one is remembered
-- Returns how many were forgotten.
local workers, worker = unpack(KEYS)
local name, facts, keep = unpack(ARGV)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gone = redis.call('ZRANGEBYSCORE', workers, '-inf', now - keep)
for _, silent in ipairs(gone) do redis.call('ZREM', workers, silent) end
redis.call('ZADD', workers, now, name)
redis.call('PEXPIRE', workers, keep)
redis.call('SET', worker, facts, 'PX', keep)
return #gone
