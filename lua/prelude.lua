-- Put before every verb. Constants, the shapes of packed records, and the tree's time.
--
-- Money and times in records are packed as big-endian 64-bit integers (`struct`, `I8`). Lua's numbers are exact up to
-- 2^53 and every counter stays below, so packing loses nothing; no sum is ever joined, `tostring`ed or `cjson`ed
-- (those keep 14 digits). Money leaves a script as text made with '%d': a whole number as a C long, which is exact (the gateway
-- refuses a server where that has not 64 bits) and several times as fast as '%.0f'.
--
-- Times are given to commands in the same way: a number would be printed with 17 digits, which is slower.
--
-- A verb reads everything before it writes anything, so that an error in the middle cannot leave half a step.

local MAX = 9007199254740991             -- the largest counter, and the limit of a window that has none: 2^53 - 1
local NONE = 9007199254740992            -- "no limit" where a limit is stored or sent
local SETTLED_KEPT_MS, SETTLED_PX = 86400000, '86400000'        -- a settled hold or a tombstone is remembered for 24 hours
local EXPIRED_KEPT_MS = 3024000000       -- an expired hold for 35 days
local SESSION_KEPT_MS = 2592000000       -- a session for 30 days after its last use

-- Books of a node, field `w`: [3i-2] start, [3i-1] spent, [3i] held of window i = 1..5 (minute, hourly, daily, weekly,
-- monthly), [16] charged_total, [17] overrun_total, [18] the tree clock (used in the root's books only).
local BOOKS = '>I8I8I8I8I8I8I8I8I8I8I8I8I8I8I8I8I8I8'
local CLOCK_AT = 137                     -- where the tree clock starts in them, in bytes
-- Limits of a node, field `l`: one for each window, or NONE.
local LIMITS = '>I8I8I8I8I8'
-- A frame: five starts, five ends, five next ends.
local FRAME = '>I8I8I8I8I8I8I8I8I8I8I8I8I8I8I8'
-- A hold: state (o open, e expired, s settled), amount, charged, expires_at, until (forgotten then; 0 while open), born of
-- its session (0 without one), place, note; then for each node of its chain the five window STARTS it was taken from.
local HOLD = '>c1I8I8I8I8I8I2c0I2c0'
local STARTS = '>I8I8I8I8I8'
-- A session: [1] spent, [2] held, [3] open holds, [4] steps, [5] budget or NONE, [6] most steps or NONE, [7] born,
-- [8] last use; then its state by name, [9] once loaded.
local SESSION = '>I8I8I8I8I8I8I8I8'
local STATE_AT = 65

local call, pack, read, format = redis.call, struct.pack, struct.unpack, string.format

-- The time in a tree: the server's clock moved by `offset` ms, but never before the root's tree clock. Also the clock itself.
local function tree_now(root_books, offset)
  local t = call('TIME')
  local clock = t[1] * 1000 + math.floor(t[2] / 1000) + offset
  local seen = root_books and read('>I8', root_books, CLOCK_AT) or 0
  if seen > clock then return seen, clock end
  return clock, clock
end

-- Writes down that a tree has seen `now`, and nothing else.
local function tick(root_key, root_books, now)
  if root_books and now > read('>I8', root_books, CLOCK_AT) then
    call('HSET', root_key, 'w', string.sub(root_books, 1, CLOCK_AT - 1) .. pack('>I8', now))
  end
end

-- The windows at `now`: [i] start and [5 + i] end. nil when the frame does not reach there.
local function windows_at(frame, now)
  local f = {read(FRAME, frame)}
  for i = 1, 5 do
    if now < f[i] or now >= f[10 + i] then return nil end
    if now >= f[5 + i] then f[i], f[5 + i] = f[5 + i], f[10 + i] end
  end
  return f
end

-- The answer to a frame that does not reach `now`.
local function wrong_frame(now, clock)
  return format('CLOCK %d %d', now, clock)
end

-- How much later than its own start a start of the calendar must be to roll a window: less is no later window, but the same one in
-- another zone, whose limit must not be granted a second time (docs/LEDGER.md). `Window::rolls_after` is the same.
local ROLLS_AFTER = {60000, 3600000, 79200000, 259200000, 1209600000}

-- Starts the windows of `books` that a later one has followed.
local function roll(books, f)
  for i = 1, 5 do
    local at = 3 * i - 2
    if f[i] - books[at] >= ROLLS_AFTER[i] then books[at], books[at + 1], books[at + 2] = f[i], 0, 0 end
  end
end

-- When window `i` of rolled `books` ends: the next start that rolls it.
local function resets_at(books, f, i)
  return f[5 + i] - books[3 * i - 2] >= ROLLS_AFTER[i] and f[5 + i] or f[10 + i]
end

-- Writes a node's books.
local function save_books(key, books)
  call('HSET', key, 'w', pack(BOOKS, unpack(books, 1, 18)))
end

-- The mark of a tree. Field `b` of the root names its books: another one after a loss. Field `g` and the writer's id says what
-- that writer has written there: how often, and when last. `known` is what the writer remembers: generation and count, packed as a
-- MARK, and the books' name (- when it has seen none); or nothing. Books that have another name, or fewer writes of this writer than it had an answer to, are
-- lost or rewound. Field `z` then blocks the tree for everybody, until an operator accepts a later generation.
local MARK = '>I8I8'
local MARK_KEPT_MS = 5184000000          -- a writer that was silent for 60 days is forgotten; its own memory is shorter

-- How often a writer has written. Also true when it, or another one, knows better than the books.
local function written(known, books, packed, blocked)
  local count = packed and read(MARK, packed) or 0
  if known == '' then return count, false end
  local generation, least = read(MARK, known)
  if blocked and generation <= tonumber(blocked) then return count, true end
  local name = string.sub(known, 17)
  return count, name ~= books and name ~= '-' or count < least
end

-- The answer to a writer that knows better. Blocks the tree, if there is one. A writer of an earlier generation lifts no later block.
local function wrong_books(root_key, known, books, count)
  if books then
    local generation = math.max(read(MARK, known), tonumber(call('HGET', root_key, 'z') or 0))
    call('HSET', root_key, 'z', format('%d', generation))
  end
  return format('LOST %s %d', books or '-', count)
end

-- Writes a root's books, and that `writer` (the field, '' for none) did it. What follows every answer to a write: the mark.
local function save_root(key, root, writer, books, count, now)
  local packed = pack(BOOKS, unpack(root, 1, 18))
  if writer == '' then
    call('HSET', key, 'w', packed)
    return ''
  end
  if count == 0 then
    -- Once for each writer and tree: those that are long gone make room.
    for _, field in ipairs(call('HKEYS', key)) do
      if string.sub(field, 1, 1) == 'g' then
        local _, last = read(MARK, call('HGET', key, field))
        if last + MARK_KEPT_MS < now then call('HDEL', key, field) end
      end
    end
  end
  call('HSET', key, 'w', packed, writer, pack(MARK, count + 1, now))
  return format(' / %s %d', books or '-', count + 1)
end

-- A session as it is stored, or nil when it is forgotten. One with an open hold is never forgotten.
local function read_session(packed, now)
  local s = {read(SESSION, packed)}
  if s[3] == 0 and now >= s[8] + SESSION_KEPT_MS then return nil end
  s[9] = string.sub(packed, STATE_AT)
  return s
end

-- A session, or nil when there is none or it is forgotten.
local function load_session(key, now)
  local packed = call('GET', key)
  return packed and read_session(packed, now) or nil
end

-- A session that nobody has used yet.
local function new_session(now)
  return {0, 0, 0, 0, NONE, NONE, now, now, 'active'}
end

-- Writes a session that is used now.
local function save_session(key, s, now)
  local packed = pack(SESSION, s[1], s[2], s[3], s[4], s[5], s[6], s[7], now) .. s[9]
  if s[3] > 0 then call('SET', key, packed) else call('SET', key, packed, 'PX', SESSION_KEPT_MS) end
end
