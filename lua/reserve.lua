-- reserve: takes a hold from every window of every node of a chain and from the session, or takes nothing.
--
-- KEYS[1]      the hold
-- KEYS[2]      the tree's index of open holds, by expires_at
-- KEYS[3..2+n] the nodes of the chain: key, team, parents, root
-- KEYS[3+n]    the session; left out when the call has none
--
-- ARGV[1]  offset of the clock, ms (0 in production)
-- ARGV[2]  frame, packed
-- ARGV[3]  n, the number of nodes
-- ARGV[4]  hold id
-- ARGV[5]  hash of the key presented, hexadecimal
-- ARGV[6]  revision of the key's record that the gateway knows
-- ARGV[7]  least, nano-dollars, not above most
-- ARGV[8]  most, nano-dollars
-- ARGV[9]  after so many ms the hold is charged in full
-- ARGV[10] place: node ids joined with commas, a newline, the session's id if there is one
-- ARGV[11] note
-- ARGV[12] the writer's field in the root, empty for none
-- ARGV[13] what the writer knows of the tree's books, empty for nothing
-- ARGV[14] session budget asked for, nano-dollars, 2^53 for none
-- ARGV[15] session steps asked for, 2^53 for none
--
-- Replies, words in one text; I is a node's place in the chain from 1, or 0 for the session; W a window from 1, or 0:
--   HELD granted now [remaining I W]     money is held, since `now` (perhaps before, by the same hold id); `/ books count` after it: the mark
--   LOST books count                     the writer, or another one, knows better than these books; nothing was written but that
--   SPENT                                the hold id is used up
--   STALE                                the gateway's view of the key is out of date, or a node above it is gone
--   STATE I state                        a node or the session is not active
--   EXPIRED at                           the key expired
--   STEPS limit used                     the session made all its calls
--   SESSION limit spent held             the session's budget has no room
--   BUDGET I W limit spent held resets   a window has no room
--   CLOCK now clock                      the frame does not reach `now`; nothing was written

local n = tonumber(ARGV[3])
local session_key = KEYS[3 + n]
local root_key = KEYS[2 + n]
local hold = call('GET', KEYS[1])
local nodes = {call('HMGET', KEYS[3], 'w', 'l', 's', 'v', 'h', 'x', 'b', 'z', ARGV[12])}
for i = 2, n do nodes[i] = call('HMGET', KEYS[2 + i], 'w', 'l', 's', 'b', 'z', ARGV[12]) end
local root = nodes[n][1]
local at = n == 1 and 7 or 4
local books_name = nodes[n][at]
local count, lost = written(ARGV[13], books_name, nodes[n][at + 2], nodes[n][at + 1])
if lost then return wrong_books(root_key, ARGV[13], books_name, count) end
local now, clock = tree_now(root, ARGV[1])
local f = windows_at(ARGV[2], now)
if not f then return wrong_frame(now, clock) end

local function answer(text)
  tick(root_key, root, now)
  return text
end

-- 1. The hold id.
local held_before, taken_at
if hold then
  local state, amount, _, expires_at, forgotten = read(HOLD, hold)
  if state == 'o' then
    held_before, taken_at = amount, expires_at - ARGV[9]
  elseif now < forgotten then
    return answer('SPENT')
  end
end

local least, most = tonumber(ARGV[7]), tonumber(ARGV[8])
local session = session_key and load_session(session_key, now)
if held_before then
  least, most = -math.huge, held_before
else
  -- 2. The key's record; and that there is one of each node above it, of which a rebuild may not have known.
  local key = nodes[1]
  if ARGV[13] ~= '' and key[4] and tonumber(key[4]) < tonumber(ARGV[6]) then
    return wrong_books(root_key, ARGV[13], books_name, count)
  end
  if not key[1] or key[5] ~= ARGV[5] or key[4] ~= ARGV[6] then return answer('STALE') end
  for i = 2, n do
    if not nodes[i][1] then return answer('STALE') end
  end
  -- 3. States and the key's end.
  for i = 1, n do
    if nodes[i][3] ~= 'active' then return answer(format('STATE %d %s', i, nodes[i][3])) end
  end
  if session and session[9] ~= 'active' then return answer('STATE 0 ' .. session[9]) end
  if key[6] and now >= tonumber(key[6]) then return answer('EXPIRED ' .. key[6]) end
  -- 4. The session: the limits in force are the least ever asked for.
  if session_key then
    session = session or new_session(now)
    session[5] = math.min(session[5], ARGV[14])
    session[6] = math.min(session[6], ARGV[15])
    if session[6] < NONE and session[4] + 1 > session[6] then
      return answer(format('STEPS %d %d', session[6], session[4]))
    end
  end
end

-- The least room over all limits decides what is granted; the least over those that are set is shown.
local grant, left, left_node, left_window = most, nil, nil, nil
if session and session[5] < NONE then
  local room = session[5] - session[1] - session[2]
  if room < least then return answer(format('SESSION %d %d %d', session[5], session[1], session[2])) end
  if room < grant then grant = room end
  left, left_node, left_window = room, 0, 0
end

-- 5. Every window of every node; only under a hold that was taken before may one be without books.
local books = {}
for i = 1, n do
  local b = nodes[i][1] and {read(BOOKS, nodes[i][1])}
  books[i] = b
  if b then roll(b, f) end
  local limits = b and {read(LIMITS, nodes[i][2])}
  for w = 1, b and 5 or 0 do
    local limit = limits[w]
    local room = (limit < NONE and limit or MAX) - b[3 * w - 1] - b[3 * w]
    if room < least then
      return answer(format('BUDGET %d %d %d %d %d %d', i, w, math.min(limit, MAX), b[3 * w - 1], b[3 * w], resets_at(b, f, w)))
    end
    if room < grant then grant = room end
    if limit < NONE and (not left or room < left) then left, left_node, left_window = room, i, w end
  end
end

if held_before then
  tick(root_key, root, now)
  if not left then return format('HELD %d %d', held_before, taken_at) end
  return format('HELD %d %d %d %d %d', held_before, taken_at, math.max(left, 0), left_node, left_window)
end

-- Everything fits: take it.
local starts = ''
books[n][18] = now
for i = 1, n do
  local b = books[i]
  b[3], b[6], b[9], b[12], b[15] = b[3] + grant, b[6] + grant, b[9] + grant, b[12] + grant, b[15] + grant
  if i < n then save_books(KEYS[2 + i], b) end
  starts = starts .. pack(STARTS, b[1], b[4], b[7], b[10], b[13])
end
local marked = save_root(root_key, books[n], ARGV[12], books_name, count, now)
local born = 0
if session then
  born = session[7]
  session[2] = math.min(session[2] + grant, MAX)
  session[3], session[4] = session[3] + 1, session[4] + 1
  save_session(session_key, session, now)
end
local expires_at = now + ARGV[9]
call('SET', KEYS[1], pack(HOLD, 'o', grant, 0, expires_at, 0, born, #ARGV[10], ARGV[10], #ARGV[11], ARGV[11]) .. starts)
call('ZADD', KEYS[2], format('%d', expires_at), ARGV[4])
if not left then return format('HELD %d %d', grant, now) .. marked end
return format('HELD %d %d %d %d %d', grant, now, left - grant, left_node, left_window) .. marked
