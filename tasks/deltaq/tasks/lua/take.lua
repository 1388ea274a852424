#!lua flags=allow-oom
-- Take a table's lease unless another holds it. The same token again changes nothing.
--
-- KEYS  lease, seq, wake
-- ARGV  token, time to live in milliseconds, name of the holder, then the names of the lanes
-- Returns the fence (0 if held by another) and the epoch ('' unless vouch.lua has vouched for what
--       this run of the server remembers of the table),
--       the name of the last holder if it never gave the lease back, else '',
--       then for each lane: last claimed sequence, first sequence and attempt of the last
--       claim, how many crashes are held against what was claimed, cause of the last one.
--
-- A claim that is still open is one whose holder neither ended it nor gave the lease back: it
-- crashed, or is away for so long that it makes no difference.
local lease, seq, wake = unpack(KEYS)
local token, ttl, holder = unpack(ARGV, 1, 3)
local owner = redis.call('HGET', lease, 'token')
if owner and owner ~= token then return {0, '', ''} end
local left_by
if not owner then
  local fence = redis.call('HINCRBY', seq, 'fence', 1)
  left_by = redis.call('HGET', seq, 'held')
  redis.call('HSET', lease, 'token', token, 'fence', fence, 'holder', holder)
  redis.call('HSET', seq, 'held', holder)
  -- The wake-ups have come. If this holder dies, the sweeper knows at once that none is left.
  for _, lane in ipairs(redis.call('HKEYS', wake)) do redis.call('HSET', wake, lane, 0) end
end
redis.call('PEXPIRE', lease, ttl)

local run, epoch = unpack(redis.call('HMGET', seq, 'run', 'epoch'))
if redis.call('INFO', 'server'):match('run_id:(%x+)') ~= run then epoch = '' end
local answer = {tonumber(redis.call('HGET', lease, 'fence')), epoch or '', left_by or ''}
for i = 4, #ARGV do
  local lane = ARGV[i]
  local claimed, began, attempt, crashed, open, cause = unpack(redis.call('HMGET', seq,
    'claimed:' .. lane, 'began:' .. lane, 'attempt:' .. lane, 'crashed:' .. lane,
    'open:' .. lane, 'cause:' .. lane))
  crashed = crashed or ''
  if open and not owner then
    crashed, cause = (crashed .. ' ' .. open), ''
    redis.call('HDEL', seq, 'open:' .. lane, 'cause:' .. lane)
    redis.call('HSET', seq, 'crashed:' .. lane, crashed)
  end
  local _, crashes = crashed:gsub('%S+', '')
  answer[#answer + 1] = tonumber(claimed or 0)
  answer[#answer + 1] = tonumber((began or ''):match('^%d+') or 0)
  answer[#answer + 1] = tonumber(attempt or 0)
  answer[#answer + 1] = crashes
  answer[#answer + 1] = cause or ''
end
return answer
