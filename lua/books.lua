-- books: which books this ledger holds as a whole, and whether they are lost. One hash for all trees.
--
-- KEYS[1] the books: `id`, chosen at random when they were begun; `gen`, when an operator last accepted or rebuilt them (ms,
--         0 for never); `lost` and `at`, why and when a gateway blocked them
--
-- ARGV[1] look | begin | block | accept
-- ARGV[2] begin, accept: an id for books that have none; block: the generation that the gateway knows
-- ARGV[3] block: why; accept: now by the caller's clock, ms
--
-- Reply: id, gen, lost, at, as they are now; nil where there is none.
--   begin   names the books unless they have a name or are blocked
--   block   blocks them unless somebody accepted later ones; a generation that they have forgotten is theirs again
--   accept  lifts the block under a new generation

local books = call('HMGET', KEYS[1], 'id', 'gen', 'lost')
local gen = tonumber(books[2]) or 0
if ARGV[1] == 'begin' and not books[1] and not books[3] then
  call('HSET', KEYS[1], 'id', ARGV[2], 'gen', 0)
elseif ARGV[1] == 'block' and gen <= tonumber(ARGV[2]) then
  if gen < tonumber(ARGV[2]) then call('HSET', KEYS[1], 'gen', ARGV[2]) end
  if not books[3] then call('HSET', KEYS[1], 'lost', ARGV[3], 'at', format('%d', (tree_now(nil, 0)))) end
elseif ARGV[1] == 'accept' then
  local now = math.max(tonumber(ARGV[3]), (tree_now(nil, 0)), gen + 1)
  call('HSET', KEYS[1], 'id', books[1] or ARGV[2], 'gen', format('%d', now))
  call('HDEL', KEYS[1], 'lost', 'at')
end
return call('HMGET', KEYS[1], 'id', 'gen', 'lost', 'at')
