#!lua flags=no-writes
-- Tell what waits for some tables, who is at them and what keeps them from going on.
--
-- ARGV  number of lanes, the lanes, then the tables
-- Returns the time (ms); then, table by table, who has the lease, what is noted about trying again, how
--         far a request came that is done in slices, and of each lane: how many wait, the first of them (JSON), their bytes, the last sequence.
--
-- One call in place of eight commands for each table, of which most are idle. No keys are declared:
-- Redis Cluster, which asks for them, is not supported.
local time = redis.call('TIME')
local told = {time[1] * 1000 + math.floor(time[2] / 1000)}
local function tell(value) told[#told + 1] = value or false end

local lanes = tonumber(ARGV[1])
for i = lanes + 2, #ARGV do
  local prefix = 'dq:{' .. ARGV[i] .. '}:'
  tell(redis.call('HGET', prefix .. 'lease', 'holder'))
  tell(redis.call('HGET', prefix .. 'seq', 'retry'))
  tell(redis.call('HGET', prefix .. 'seq', 'slices'))
  for lane = 2, lanes + 1 do
    local inbox = prefix .. 'inbox:' .. ARGV[lane]
    local waiting = redis.call('XLEN', inbox)
    tell(waiting)
    local head = waiting > 0 and redis.call('XRANGE', inbox, '-', '+', 'COUNT', 1)[1]
    local wire = false
    if head then
      for field = 1, #head[2], 2 do
        if head[2][field] == 'r' then wire = head[2][field + 1] end
      end
    end
    tell(wire)
    tell(redis.call('HGET', prefix .. 'seq', 'bytes:' .. ARGV[lane]))
    tell(redis.call('HGET', prefix .. 'seq', ARGV[lane]))
  end
end
return told
