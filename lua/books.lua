-- books: which books this ledger holds as a whole, and whether they are lost. One hash for all trees.
--
-- KEYS[1] the books: `id`, chosen at random when they were begun; `gen`, when an operator last accepted or rebuilt them (ms,
--         0 for never); `lost` and `at`, why and when a gateway or a rebuild blocked them; `by`, who decided on them last: a
--         rebuild that halted them, or whoever accepted them
--
-- ARGV[1] look | begin | block | halt | accept
-- ARGV[2] begin, accept: an id for books that have none, in accept also the name of who accepts; block: the generation that the
--         gateway knows; halt: the name of the rebuild
-- ARGV[3] block, halt: why; accept: now by the caller's clock, ms
-- ARGV[4] accept: who had decided last when the caller began to look whether the books are being rebuilt; empty for nobody
--
-- Reply: id, gen, lost, at, by, as they are now; nil where there is none.
--   begin   names the books unless they have a name or are blocked
--   block   blocks them unless somebody accepted later ones; a generation that they have forgotten is theirs again
--   halt    blocks them whatever their generation is, for a rebuild
--   accept  lifts the block under a new generation; does nothing where somebody has decided since (`by` is then another name)

local books = call('HMGET', KEYS[1], 'id', 'gen', 'lost', 'by')
local gen = tonumber(books[2]) or 0
if ARGV[1] == 'begin' and not books[1] and not books[3] then
  call('HSET', KEYS[1], 'id', ARGV[2], 'gen', 0)
elseif ARGV[1] == 'block' and gen <= tonumber(ARGV[2]) then
  if gen < tonumber(ARGV[2]) then call('HSET', KEYS[1], 'gen', ARGV[2]) end
  if not books[3] then call('HSET', KEYS[1], 'lost', ARGV[3], 'at', format('%d', (tree_now(nil, 0)))) end
elseif ARGV[1] == 'halt' then
  if not books[3] then call('HSET', KEYS[1], 'lost', ARGV[3], 'at', format('%d', (tree_now(nil, 0)))) end
  call('HSET', KEYS[1], 'by', ARGV[2])
elseif ARGV[1] == 'accept' and (books[4] or '') == ARGV[4] then
  local now = math.max(tonumber(ARGV[3]), (tree_now(nil, 0)), gen + 1)
  call('HSET', KEYS[1], 'id', books[1] or ARGV[2], 'gen', format('%d', now), 'by', ARGV[2])
  call('HDEL', KEYS[1], 'lost', 'at')
end
return call('HMGET', KEYS[1], 'id', 'gen', 'lost', 'at', 'by')
