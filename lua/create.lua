-- create: writes a new node into its tree. It counts as made only when its name is confirmed (see `src/ledger/names.rs`).
--
-- KEYS[1] the node
-- KEYS[2] the tree's set of node ids
--
-- ARGV[1]   id
-- ARGV[2..] pairs of field and value
--
-- Replies: DONE; EXISTS when a node that counts as made has this id (nothing was written).

if call('HGET', KEYS[1], 'm') then return 'EXISTS' end
call('DEL', KEYS[1])
call('HSET', KEYS[1], unpack(ARGV, 2))
call('SADD', KEYS[2], ARGV[1])
return 'DONE'
