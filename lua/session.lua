-- session: the books of one session, and its state if one is given.
--
-- KEYS[1] the root node
-- KEYS[2] the session
--
-- ARGV[1] offset of the clock, ms (0 in production)
-- ARGV[2] the state to set; left out to read
--
-- Replies, words in one text:
--   SESSION state spent held steps budget most_steps   the last two are - where there is none
--   NONE                                               there is no such session
--   REVOKED                                            it stays revoked; nothing was written

local root = call('HGET', KEYS[1], 'w')
local now = tree_now(root, ARGV[1])
local s = load_session(KEYS[2], now)
if ARGV[2] then
  s = s or new_session(now)
  if s[9] == 'revoked' and ARGV[2] ~= 'revoked' then return 'REVOKED' end
  s[9] = ARGV[2]
  save_session(KEYS[2], s, now)
end
tick(KEYS[1], root, now)
if not s then return 'NONE' end

local function limit(value)
  return value < NONE and format('%d', value) or '-'
end
return format('SESSION %s %d %d %d %s %s', s[9], s[1], s[2], s[4], limit(s[5]), limit(s[6]))
