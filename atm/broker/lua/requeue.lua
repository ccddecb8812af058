#!lua flags=allow-oom
-- Puts fetched messages back: at the head, in their order, or at the end.
-- KEYS: fetched, messages, waiting, wake.  ARGV: lpush or rpush, ids.
local given = 0
for i = #ARGV, 2, -1 do
    if redis.call("srem", KEYS[1], ARGV[i]) > 0 and redis.call("hexists", KEYS[2], ARGV[i]) > 0 then
        redis.call(ARGV[1], KEYS[3], ARGV[i])
        redis.call("rpush", KEYS[4], "1")
        given = given + 1
    end
end
return given
