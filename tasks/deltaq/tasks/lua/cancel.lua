#!lua flags=allow-oom
-- Take a request out of its inbox, unless a committer has claimed it.
--
-- KEYS  request, seq, cancelled, then the inbox of each lane
-- ARGV  outcome (JSON), seconds to keep it, size in bytes, channel, message,
--       under what the cancellation is counted, then the names of the lanes
-- Returns the state after the call, or '' when the request is unknown.
--
-- A claim outlives its lease on purpose: a holder that is thought dead may still commit what
-- it claimed, so what nobody ever claimed is all that can be cancelled with certainty. Of what is
-- done in slices (put_down.lua) the ones to come can: what is done stays done.
local request, seq, cancelled = KEYS[1], KEYS[2], KEYS[3]
local outcome, keep, size, channel, message, counted_as = unpack(ARGV, 1, 6)
local known = redis.call('HMGET', request, 'state', 'sequence', 'lane')
local state, sequence, lane = known[1], known[2], known[3]
if not state then return '' end
if state ~= 'queued' then return state end
if tonumber(redis.call('HGET', seq, 'claimed:' .. lane) or 0) >= tonumber(sequence) then
  local slices = redis.call('HGET', seq, 'slices')
  local id = slices and cjson.decode(slices).request_id
  if not id or request:sub(-#id - 1) ~= ':' .. id then return state end
end
for i = 7, #ARGV do
  if ARGV[i] == lane and redis.call('XDEL', KEYS[i - 3], sequence .. '-0') == 1 then
    redis.call('HINCRBY', seq, 'bytes:' .. lane, 0 - size)
  end
end
redis.call('HSET', request, 'state', 'cancelled', 'outcome', outcome)
redis.call('EXPIRE', request, keep)
redis.call('HINCRBY', cancelled, counted_as, 1)
redis.call('PUBLISH', channel, message)
return 'cancelled'
