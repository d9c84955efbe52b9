-- standing: whether calls that run in one tree may go on.
--
-- KEYS[1]      the root node
-- KEYS[2..n]   other nodes
-- KEYS[n+1..]  sessions
--
-- ARGV[1] offset of the clock, ms (0 in production)
-- ARGV[2] frame, packed
-- ARGV[3] n, the number of nodes
-- ARGV[4] the writer's field in the root, empty for none
-- ARGV[5] what the writer knows of the tree's books, empty for nothing
--
-- Replies, one text:
--   STANDING and for each of KEYS one word: good | over (a limit is 0 or below what is spent) | gone | a state but active
--   LOST books count   the writer, or another one, knows better than these books; nothing was written but that
--   CLOCK now clock    the frame does not reach `now`; nothing was written

local n = tonumber(ARGV[3])
local nodes = {}
nodes[1] = call('HMGET', KEYS[1], 's', 'w', 'l', 'b', 'z', ARGV[4])
local count, lost = written(ARGV[5], nodes[1][4], nodes[1][6], nodes[1][5])
if lost then return wrong_books(KEYS[1], ARGV[5], nodes[1][4], count) end
for i = 2, n do nodes[i] = call('HMGET', KEYS[i], 's', 'w', 'l') end
local now, clock = tree_now(nodes[1][2], ARGV[1])
local f = windows_at(ARGV[2], now)
if not f then return wrong_frame(now, clock) end

local function over(limit, spent)
  return limit < NONE and (limit == 0 or limit < spent)
end

local function node_word(node)
  if not node[2] then return 'gone' end
  if node[1] ~= 'active' then return node[1] end
  local b, limits = {read(BOOKS, node[2])}, {read(LIMITS, node[3])}
  roll(b, f)
  for w = 1, 5 do
    if over(limits[w], b[3 * w - 1]) then return 'over' end
  end
  return 'good'
end

local function session_word(session)
  if not session then return 'good' end
  if session[9] ~= 'active' then return session[9] end
  return over(session[5], session[1]) and 'over' or 'good'
end

local words = {'STANDING'}
for i = 1, n do words[1 + i] = node_word(nodes[i]) end
for i = n + 1, #KEYS do words[1 + i] = session_word(load_session(KEYS[i], now)) end
tick(KEYS[1], nodes[1][2], now)
return table.concat(words, ' ')
