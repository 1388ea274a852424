#!lua flags=allow-oom
-- Note that requests are committed which the table's log names and Redis has forgotten.
--
-- KEYS  lease, seq, then the hash of each request
-- ARGV  token, seconds to keep outcomes, prefix of the inboxes, prefix of the clients' channels,
--       then sequence, outcome (JSON) and message to its client of each
-- Returns how many were not known as settled, or -1 when the lease is not ours any more.
--
-- One that waits in an inbox was submitted again after its commit: it is taken out, and its client
-- told. The hash of one that is unknown gets no digest; submit.lua lets any match.
local lease, seq = KEYS[1], KEYS[2]
local token, keep, inboxes, channels = unpack(ARGV, 1, 4)
if redis.call('HGET', lease, 'token') ~= token then return -1 end

local function take_out(lane, sequence, message)
  local id = sequence .. '-0'
  local entry = redis.call('XRANGE', inboxes .. lane, id, id)[1]
  if not entry then return end
  redis.call('XDEL', inboxes .. lane, id)
  local request = cjson.decode(entry[2][2])
  redis.call('HINCRBY', seq, 'bytes:' .. lane, 0 - request.size_bytes)
  redis.call('PUBLISH', channels .. request.client_id, message)
end

local restored = 0
for i = 3, #KEYS do
  local sequence, outcome, message = unpack(ARGV, 3 * i - 4, 3 * i - 2)
  local known = redis.call('HMGET', KEYS[i], 'state', 'lane', 'sequence')
  if not known[1] or known[1] == 'queued' then
    if known[1] then take_out(known[2], known[3], message) end
    redis.call('HDEL', KEYS[i], 'lane')  -- as acknowledge.lua does
    redis.call('HSET', KEYS[i], 'state', 'committed', 'outcome', outcome, 'sequence', sequence)
    redis.call('EXPIRE', KEYS[i], keep)
    restored = restored + 1
  end
end
return restored
