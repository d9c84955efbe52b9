-- swap: gives a key another value if it still has the one expected.
--
-- KEYS[1] the key
--
-- ARGV[1] the value expected
-- ARGV[2] the new value; left out to delete the key
--
-- Replies: DONE; OTHER when it has another value or none (nothing was written).

if call('GET', KEYS[1]) ~= ARGV[1] then return 'OTHER' end
if ARGV[2] then call('SET', KEYS[1], ARGV[2]) else call('DEL', KEYS[1]) end
return 'DONE'
