#!lua flags=allow-oom
-- Keep the answer to a query and tell its client.
--
-- KEYS  request
-- ARGV  state, outcome (JSON), seconds to keep it, channel, message
redis.call('HSET', KEYS[1], 'state', ARGV[1], 'outcome', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return redis.call('PUBLISH', ARGV[4], ARGV[5])
