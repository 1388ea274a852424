#!lua flags=allow-oom
-- Remove settled requests from an inbox, keep their outcomes and tell their clients.
--
-- KEYS  lease, inbox, seq, then the request hash of each outcome
-- ARGV  token, lane, last sequence, bytes settled, seconds to keep outcomes,
--       then state and outcome (JSON) of each request, then channel and message pairs
-- Returns 1, or 0 when the lease is not ours any more (the next holder will do it).
--
-- The claim of these requests ends here, and with it the note that the table is tried again.
-- The first write frees memory, so Redis lets the script through at its memory limit.
-- Of a request that was cancelled during its last slice the first outcome stays.
-- A second run after a lost reply removes nothing and writes the same outcomes again.
local lease, inbox, seq = unpack(KEYS, 1, 3)
local token, lane, last, bytes, keep = unpack(ARGV, 1, 5)
if redis.call('HGET', lease, 'token') ~= token then return 0 end

local removed = redis.call('XTRIM', inbox, 'MINID', (last + 1) .. '-0')
if removed > 0 then redis.call('HINCRBY', seq, 'bytes:' .. lane, 0 - bytes) end
redis.call('HDEL', seq, 'open:' .. lane, 'retry')
local arg = 6
for i = 4, #KEYS do
  if redis.call('HGET', KEYS[i], 'state') ~= 'cancelled' then
    -- With five fields a hash takes 100 bytes more; the lane matters only while it is queued.
    redis.call('HDEL', KEYS[i], 'lane')
    redis.call('HSET', KEYS[i], 'state', ARGV[arg], 'outcome', ARGV[arg + 1])
    redis.call('EXPIRE', KEYS[i], keep)
  end
  arg = arg + 2
end
for i = arg, #ARGV, 2 do
  redis.call('PUBLISH', ARGV[i], ARGV[i + 1])
end
return 1
