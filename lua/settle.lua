-- settle: ends a hold at its true cost or in full; or, for a sweep, expires it.
--
-- KEYS[1]      the hold
-- KEYS[2]      the tree's index of open holds, by expires_at
-- KEYS[3]      the tree's index of expired holds, by the time at which they are forgotten
-- KEYS[4..3+n] the nodes of the chain: key, team, parents, root
-- KEYS[4+n]    the session; left out when the call had none
--
-- ARGV[1] offset of the clock, ms (0 in production)
-- ARGV[2] n, the number of nodes
-- ARGV[3] hold id
-- ARGV[4] exact | full | expire (in full, only if it is open and due; it becomes expired)
-- ARGV[5] cost, nano-dollars, for exact
-- ARGV[6] place: node ids joined with commas, a newline, the session's id if there is one
-- ARGV[7] the writer's field in the root, empty for none
-- ARGV[8] what the writer knows of the tree's books, empty for nothing
--
-- Replies, words in one text:
--   APPLIED charged held       it ended the hold; `/ books count` after it: the mark
--   CORRECTED charged before   it had expired in full; now the true cost stands; the mark as well
--   ALREADY charged            it had ended before
--   UNKNOWN                    there is no such hold; it is now settled with nothing
--   KEPT                       expire only: it is not open or not due; nothing was written
--   LOST books count           the writer, or another one, knows better than these books; nothing was written but that
--   PLACE                      the hold was taken somewhere else; nothing was written

local n = tonumber(ARGV[2])
local mode = ARGV[4]
local root_key, session_key = KEYS[3 + n], KEYS[4 + n]
local hold = call('GET', KEYS[1])
local packed = {}
for i = 1, n - 1 do packed[i] = call('HGET', KEYS[3 + i], 'w') end
local root = call('HMGET', root_key, 'w', 'b', 'z', ARGV[7])
packed[n] = root[1]
local count, lost = written(ARGV[8], root[2], root[4], root[3])
if lost then return wrong_books(root_key, ARGV[8], root[2], count) end
local now = tree_now(packed[n], ARGV[1])

local state, amount, charged, expires_at, forgotten, born, place, note, starts_at
if hold then
  state, amount, charged, expires_at, forgotten, born, place, note, starts_at = read(HOLD, hold)
  if state ~= 'o' and now >= forgotten then state = nil end
end
if not state then
  if mode == 'expire' then return 'KEPT' end
  tick(root_key, packed[n], now)
  call('SET', KEYS[1], pack(HOLD, 's', 0, 0, now, now + SETTLED_KEPT_MS, 0, 0, '', 0, ''), 'PX', SETTLED_PX)
  return 'UNKNOWN'
end
if mode == 'expire' and (state ~= 'o' or expires_at > now) then return 'KEPT' end
if state ~= 's' and place ~= ARGV[6] then return 'PLACE' end
if state == 's' or (state == 'e' and mode == 'full') then
  tick(root_key, packed[n], now)
  return format('ALREADY %d', charged)
end

-- An open hold gives back `amount` and is charged `cost`; an expired one was charged `amount` already.
local cost = mode == 'exact' and math.min(tonumber(ARGV[5]), MAX) or amount
local release, charge = amount, cost
if state == 'e' then release, charge = 0, cost - amount end

local function book(value, change)
  return math.max(0, math.min(value + change, MAX))
end

local session = session_key and load_session(session_key, now)
local books = {}
for i = 1, n do
  local b = {read(BOOKS, packed[i])}
  local starts = {read(STARTS, hold, starts_at + 40 * (i - 1))}
  books[i] = b
  for w = 1, 5 do
    local at = 3 * w - 2
    -- A window that has rolled since keeps what it has: the charge belongs to the past one.
    if b[at] == starts[w] then
      local spent, held = b[at + 1] + charge, b[at + 2] - release
      if spent > MAX then spent = MAX elseif spent < 0 then spent = 0 end
      if held < 0 then held = 0 end
      b[at + 1], b[at + 2] = spent, held
    end
  end
  b[16] = book(b[16], charge)
  if cost > amount then b[17] = book(b[17], cost - amount) end
end

books[n][18] = now
for i = 1, n - 1 do save_books(KEYS[3 + i], books[i]) end
local marked = save_root(root_key, books[n], ARGV[7], root[2], count, now)
-- A session that was forgotten and began anew since is another session.
if session and session[7] == born then
  session[1], session[2] = book(session[1], charge), book(session[2], -release)
  if state == 'o' then session[3] = session[3] - 1 end
  save_session(session_key, session, now)
end
if mode == 'expire' then
  forgotten = now + EXPIRED_KEPT_MS
  local kept = pack(HOLD, 'e', amount, amount, expires_at, forgotten, born, #place, place, #note, note)
  call('SET', KEYS[1], kept .. string.sub(hold, starts_at), 'PX', EXPIRED_KEPT_MS)
  call('ZADD', KEYS[3], forgotten, ARGV[3])
else
  local settled = pack(HOLD, 's', amount, cost, expires_at, now + SETTLED_KEPT_MS, 0, 0, '', 0, '')
  call('SET', KEYS[1], settled, 'PX', SETTLED_PX)
end
if state == 'e' then
  call('ZREM', KEYS[3], ARGV[3])
  return format('CORRECTED %d %d', cost, amount) .. marked
end
call('ZREM', KEYS[2], ARGV[3])
return format('APPLIED %d %d', cost, amount) .. marked
