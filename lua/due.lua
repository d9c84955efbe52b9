-- due: the ids of holds of one tree that a sweep must expire. Also drops what is forgotten from the index of expired holds.
--
-- KEYS[1] the root node
-- KEYS[2] the tree's index of open holds, by expires_at
-- KEYS[3] the tree's index of expired holds, by the time at which they are forgotten
--
-- ARGV[1] offset of the clock, ms (0 in production)
-- ARGV[2] most ids
--
-- Reply: hold ids, first due first. The settlement judges again whether each one is due.

local now = tree_now(call('HGET', KEYS[1], 'w'), ARGV[1])
local due = call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[2])
if #call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 1) > 0 then
  call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
end
return due
