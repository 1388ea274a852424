#!lua flags=allow-oom
-- Give all requests of a lane new sequences above a floor, keeping their order.
--
-- KEYS  lease, inbox, seq
-- ARGV  token, lane, floor, prefix of the request hashes
-- Returns the number of requests moved, or -1 when the lease is not ours any more.
--
-- Needed when Redis came back without its last writes (failover, lost disk): it then gives out
-- sequences a second time, which the table's ledger would take for committed.
local lease, inbox, seq = unpack(KEYS)
local token, lane, floor, prefix = unpack(ARGV)
if redis.call('HGET', lease, 'token') ~= token then return -1 end

local sequence = math.max(tonumber(redis.call('HGET', seq, lane) or 0), tonumber(floor))
local entries = redis.call('XRANGE', inbox, '-', '+')
for _, entry in ipairs(entries) do
  sequence = sequence + 1
  redis.call('XDEL', inbox, entry[1])
  redis.call('XADD', inbox, sequence .. '-0', unpack(entry[2]))
  local ok, request = pcall(cjson.decode, entry[2][2])
  if ok and request.request_id then
    redis.call('HSET', prefix .. request.request_id, 'sequence', sequence)
  end
end
redis.call('HSET', seq, lane, sequence)
return #entries
