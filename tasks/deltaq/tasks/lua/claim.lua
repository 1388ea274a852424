#!lua flags=allow-oom
-- Declare that the requests first..last of a lane are about to be applied.
--
-- KEYS  lease, inbox, seq
-- ARGV  token, lane, first sequence, last sequence, number of requests between them,
--       the attempt if the caller knows it (0: count it here)
-- Returns the attempt, from 1; 0 when a request was cancelled meanwhile; -1 when the server was
-- restarted since vouch.lua vouched for its memory; -2 when the lease is not ours.
--
-- The claim is open until acknowledge.lua or unclaim.lua ends it. Whoever takes the lease and
-- finds it open knows that its holder crashed (take.lua).
local lease, inbox, seq = unpack(KEYS)
local token, lane, first, last, count, given = unpack(ARGV)
if redis.call('HGET', lease, 'token') ~= token then return -2 end
local run = redis.call('HGET', seq, 'run')
if run and redis.call('INFO', 'server'):match('run_id:(%x+)') ~= run then return -1 end
if #redis.call('XRANGE', inbox, first .. '-0', last .. '-0') ~= tonumber(count) then return 0 end
first, last = tonumber(first), tonumber(last)

local names = {'claimed', 'began', 'attempt', 'tries', 'crashed'}
for i, name in ipairs(names) do names[i] = name .. ':' .. lane end
local claimed, began, attempt, tries, crashed = unpack(redis.call('HMGET', seq, unpack(names)))
claimed, attempt, tries = tonumber(claimed or 0), tonumber(attempt or 0), tonumber(tries or 0)
local from, upto = (began or ''):match('^(%d+)-(%d+)$')
from, upto = tonumber(from or 0), tonumber(upto or 0)

given = tonumber(given or 0)
if given > 0 then
  tries, attempt = given - 1, given
elseif first > claimed then
  tries, attempt = 0, 1
elseif first == from and last == upto then
  attempt = attempt + 1
else
  -- A part of what was tried as a whole, or the part after that.
  if first >= from and last <= upto then tries = attempt end
  attempt = tries + 1
end
if crashed then
  local _, crashes = crashed:gsub('%S+', '')
  -- Behind the suspects, or behind the one that was found out: nothing is held against these.
  if first > claimed or (crashes >= 3 and first > from) then
    redis.call('HDEL', seq, 'crashed:' .. lane, 'cause:' .. lane)
  end
end
redis.call('HSET', seq,
  'claimed:' .. lane, string.format('%d', math.max(claimed, last)),
  'began:' .. lane, string.format('%d-%d', first, last),
  'attempt:' .. lane, attempt, 'tries:' .. lane, tries, 'open:' .. lane, token)
return attempt
