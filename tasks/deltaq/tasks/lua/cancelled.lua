#!lua flags=allow-oom
-- Take the counts of cancelled requests; the caller counts them, and nobody else does.
--
-- KEYS  cancelled
-- Returns under what each was counted and how often, in turn.
local found = {}
for _, counted_as in ipairs(redis.call('HKEYS', KEYS[1])) do
  found[#found + 1] = counted_as
  found[#found + 1] = tonumber(redis.call('HGET', KEYS[1], counted_as)) or 0
end
redis.call('DEL', KEYS[1])
return found
