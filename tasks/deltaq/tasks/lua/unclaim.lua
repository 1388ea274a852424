#!lua flags=allow-oom
-- End a claim that came to no outcome.
--
-- KEYS  seq
-- ARGV  token, lane, cause of the crash ('' if the claim ends in order: then it was none),
--       1 if nobody began to apply them: then it was no attempt either
-- Returns how many crashes are held against the requests now.
--
-- The lease is not asked for. Its holder may have been away for longer than its time; then the
-- next one has taken it for crashed, and hears here that it was not.
local seq = KEYS[1]
local token, lane, cause, untried = unpack(ARGV)
local open, crashed = unpack(redis.call('HMGET', seq, 'open:' .. lane, 'crashed:' .. lane))
local crashes = {}
for crash in (crashed or ''):gmatch('%S+') do crashes[#crashes + 1] = crash end

if open == token then
  redis.call('HDEL', seq, 'open:' .. lane)
  if untried == '1' then redis.call('HINCRBY', seq, 'attempt:' .. lane, -1) end
end
if cause ~= '' and open == token then
  crashes[#crashes + 1] = '.'
  redis.call('HSET', seq, 'cause:' .. lane, cause)
elseif cause == '' then
  for i, crash in ipairs(crashes) do
    if crash == token then
      table.remove(crashes, i)
      break
    end
  end
end
if #crashes > 0 then
  redis.call('HSET', seq, 'crashed:' .. lane, table.concat(crashes, ' '))
elseif crashed then
  redis.call('HDEL', seq, 'crashed:' .. lane, 'cause:' .. lane)
end
return #crashes
