-- status: the books of one node, at the tree's time.
--
-- KEYS[1] the root node
-- KEYS[2] the node (may be the root)
--
-- ARGV[1] offset of the clock, ms (0 in production)
-- ARGV[2] frame, packed
--
-- Replies:
--   text, state, record (JSON), where text is: BOOKS, for each of the five windows `start spent held resets limit`
--     (limit is - when there is none), then charged_total and overrun_total
--   GONE               there is no such node
--   CLOCK now clock    the frame does not reach `now`; nothing was written

local root = call('HGET', KEYS[1], 'w')
local node = call('HMGET', KEYS[2], 'w', 'l', 's', 'j')
if not node[1] then return 'GONE' end
local now, clock = tree_now(root, ARGV[1])
local f = windows_at(ARGV[2], now)
if not f then return wrong_frame(now, clock) end

local b, limits = {read(BOOKS, node[1])}, {read(LIMITS, node[2])}
roll(b, f)
local words = {'BOOKS'}
for w = 1, 5 do
  words[1 + w] = format('%d %d %d %d ', b[3 * w - 2], b[3 * w - 1], b[3 * w], resets_at(b, f, w))
    .. (limits[w] < NONE and format('%d', limits[w]) or '-')
end
words[7] = format('%d %d', b[16], b[17])
tick(KEYS[1], root, now)
return {table.concat(words, ' '), node[3], node[4]}
