-- edit: changes a node's record under a new revision.
--
-- KEYS[1] the node
--
-- ARGV[1] limits | state | rotate
-- ARGV[2..] limits: pairs of window (1..5) and limit (nano-dollars, 2^53 lifts it); state: its name; rotate: the new hash
--
-- Replies, words in one text:
--   DONE [hash]   changed; after rotate, the hash before
--   GONE          there is no such node
--   REVOKED       a revoked node stays revoked; nothing was written

local node = call('HMGET', KEYS[1], 'w', 'l', 's', 'h')
if not node[1] then return 'GONE' end
local done = 'DONE'
if ARGV[1] == 'limits' then
  local limits = {read(LIMITS, node[2])}
  for i = 2, #ARGV, 2 do limits[tonumber(ARGV[i])] = tonumber(ARGV[i + 1]) end
  call('HSET', KEYS[1], 'l', pack(LIMITS, unpack(limits, 1, 5)))
elseif ARGV[1] == 'state' then
  if node[3] == 'revoked' and ARGV[2] ~= 'revoked' then return 'REVOKED' end
  call('HSET', KEYS[1], 's', ARGV[2])
else
  done = 'DONE ' .. node[4]
  call('HSET', KEYS[1], 'h', ARGV[2])
end
call('HINCRBY', KEYS[1], 'v', 1)
return done
