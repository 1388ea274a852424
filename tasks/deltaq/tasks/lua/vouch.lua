#!lua flags=allow-oom
-- Note that what this server remembers of a table was compared with the table and the staged files.
--
-- KEYS  lease, seq
-- ARGV  token, run id of the server when the comparison began, the table's own epoch ('' if it tells
--       none), epoch to use if there is none
-- Returns the epoch, '' when the lease is not ours any more or the server is another one now.
local lease, seq = KEYS[1], KEYS[2]
local token, run, told, new_epoch = unpack(ARGV)
if redis.call('HGET', lease, 'token') ~= token then return '' end
if redis.call('INFO', 'server'):match('run_id:(%x+)') ~= run then return '' end
if told ~= '' then redis.call('HSET', seq, 'epoch', told) end
redis.call('HSETNX', seq, 'epoch', new_epoch)
redis.call('HSET', seq, 'run', run)
return redis.call('HGET', seq, 'epoch')
