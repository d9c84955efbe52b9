-- settle: ends holds of one tree, each at its true cost or in full; or, for a sweep, expires them. Each is judged as if it came alone, in
-- the order given; what they change is written once, at the end.
--
-- KEYS[1]            the tree's index of open holds, by expires_at
-- KEYS[2]            the tree's index of expired holds, by the time at which they are forgotten
-- KEYS[3..2+n]       every node of the chains, the root last
-- KEYS[3+n..2+n+s]   every session of the calls
-- KEYS[3+n+s..]      the holds, no two of them the same
--
-- ARGV[1] offset of the clock, ms (0 in production)
-- ARGV[2] n, the number of nodes
-- ARGV[3] s, the number of sessions
-- ARGV[4] the writer's field in the root, empty for none
-- ARGV[5] what the writer knows of the tree's books, empty for nothing
-- then for each hold five:
--   its id
--   cost in nano-dollars | full | expire (in full, only if it is open and due; it becomes expired)
--   place: node ids joined with commas, a newline, the session's id if there is one
--   its chain: the places of its nodes in 1..n, two bytes each, key first, root last
--   the place of its session in 1..s, 0 for none
--
-- Reply, one text: for each hold a line of words, and after the last one ` / books count`, the mark, if the books were written.
--   APPLIED charged held       it ended the hold
--   CORRECTED charged before   it had expired in full; now the true cost stands
--   ALREADY charged            it had ended before
--   UNKNOWN                    there is no such hold; it is now settled with nothing
--   KEPT                       expire only: it is not open or not due; nothing was written
--   PLACE                      the hold was taken somewhere else; nothing was written
-- Or, of all of them: LOST books count: the writer, or another one, knows better than these books; nothing was written but that.

local n, s = tonumber(ARGV[2]), tonumber(ARGV[3])
local root_key = KEYS[2 + n]
local values = call('MGET', unpack(KEYS, 3 + n))        -- the sessions, then the holds
local packed = {}
for i = 1, n - 1 do packed[i] = call('HGET', KEYS[2 + i], 'w') end
local root = call('HMGET', root_key, 'w', 'b', 'z', ARGV[4])
packed[n] = root[1]
local count, lost = written(ARGV[5], root[2], root[4], root[3])
if lost then return wrong_books(root_key, ARGV[5], root[2], count) end
local now = tree_now(packed[n], ARGV[1])

-- What has changed, and is written at the end.
local ticked, booked = false, false
local books, starts, sessions = {}, {}, {}              -- by place; `starts` of the windows as in a hold, packed
local used = {}                                         -- places of the sessions that changed
local puts, opened, expired, due = {}, {}, {}, {}       -- arguments of SET, of both ZREM, and of ZADD

local function book(value, change)
  return math.max(0, math.min(value + change, MAX))
end

-- Books of a node: gives back `release` and charges `charge` in every window that still is the one of the hold, whose starts
-- are packed in `hold` at `at`. A window that has rolled since keeps what it has: the charge belongs to the past one.
local function charge_node(i, hold, at, release, charge, overrun)
  local b = books[i]
  if not b then
    -- A rebuild may not have known the record of a team or key: then it has no books, and those above it have the charge.
    if not packed[i] then return end
    b = {read(BOOKS, packed[i])}
    books[i], starts[i] = b, pack(STARTS, b[1], b[4], b[7], b[10], b[13])
  end
  local taken = string.sub(hold, at, at + 39)
  local all = taken == starts[i]
  local from = not all and {read(STARTS, taken)}
  for w = 1, 13, 3 do
    if all or b[w] == from[(w + 2) / 3] then
      local spent, held = b[w + 1] + charge, b[w + 2] - release
      if spent > MAX then spent = MAX elseif spent < 0 then spent = 0 end
      if held < 0 then held = 0 end
      b[w + 1], b[w + 2] = spent, held
    end
  end
  b[16] = book(b[16], charge)
  if overrun > 0 then b[17] = book(b[17], overrun) end
end

local function charge_session(place, born, release, charge, was_open)
  local session = sessions[place]
  if session == nil then
    session = values[place] and read_session(values[place], now) or false
    sessions[place] = session
  end
  -- A session that was forgotten and began anew since is another session.
  if not session or session[7] ~= born then return end
  session[1], session[2] = book(session[1], charge), book(session[2], -release)
  if was_open then session[3] = session[3] - 1 end
  used[place] = true
end

local function settle(key, hold, id, ending, place, chain, session_place)
  local state, amount, charged, expires_at, forgotten, born, taken_at, note, starts_at
  if hold then
    state, amount, charged, expires_at, forgotten, born, taken_at, note, starts_at = read(HOLD, hold)
    if state ~= 'o' and now >= forgotten then state = nil end
  end
  if not state then
    if ending == 'expire' then return 'KEPT' end
    ticked = true
    puts[#puts + 1] = {key, pack(HOLD, 's', 0, 0, now, now + SETTLED_KEPT_MS, 0, 0, '', 0, ''), SETTLED_PX}
    return 'UNKNOWN'
  end
  if ending == 'expire' and (state ~= 'o' or expires_at > now) then return 'KEPT' end
  if state ~= 's' and taken_at ~= place then return 'PLACE' end
  if state == 's' or (state == 'e' and ending == 'full') then
    ticked = true
    return format('ALREADY %d', charged)
  end

  -- An open hold gives back `amount` and is charged `cost`; an expired one was charged `amount` already.
  local cost = math.min(tonumber(ending) or amount, MAX)
  local release, charge = amount, cost
  if state == 'e' then release, charge = 0, cost - amount end
  for j = 1, #chain, 2 do
    local high, low = string.byte(chain, j, j + 1)
    charge_node(256 * high + low, hold, starts_at + 20 * (j - 1), release, charge, cost - amount)
  end
  if session_place > 0 then charge_session(session_place, born, release, charge, state == 'o') end
  booked = true
  if ending == 'expire' then
    forgotten = now + EXPIRED_KEPT_MS
    local kept = pack(HOLD, 'e', amount, amount, expires_at, forgotten, born, #place, place, #note, note)
    puts[#puts + 1] = {key, kept .. string.sub(hold, starts_at), EXPIRED_KEPT_MS}
    due[#due + 1], due[#due + 2] = forgotten, id
  else
    local settled = pack(HOLD, 's', amount, cost, expires_at, now + SETTLED_KEPT_MS, 0, 0, '', 0, '')
    puts[#puts + 1] = {key, settled, SETTLED_PX}
  end
  if state == 'e' then
    expired[#expired + 1] = id
    return format('CORRECTED %d %d', cost, amount)
  end
  opened[#opened + 1] = id
  return format('APPLIED %d %d', cost, amount)
end

local lines = {}
for i = 1, #KEYS - 2 - n - s do
  local at = 1 + 5 * i
  lines[i] = settle(KEYS[2 + n + s + i], values[s + i], ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 4]))
end

local marked = ''
if booked then
  for i = 1, n - 1 do
    if books[i] then save_books(KEYS[2 + i], books[i]) end
  end
  -- Without a root there is no clock of the tree, and nowhere to write a mark.
  if books[n] then
    books[n][18] = now
    marked = save_root(root_key, books[n], ARGV[4], root[2], count, now)
  end
elseif ticked then
  tick(root_key, packed[n], now)
end
for i in pairs(used) do save_session(KEYS[2 + n + i], sessions[i], now) end
for _, put in ipairs(puts) do call('SET', put[1], put[2], 'PX', put[3]) end
if #due > 0 then call('ZADD', KEYS[2], unpack(due)) end
if #expired > 0 then call('ZREM', KEYS[2], unpack(expired)) end
if #opened > 0 then call('ZREM', KEYS[1], unpack(opened)) end
return table.concat(lines, '\n') .. marked
