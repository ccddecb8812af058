#!lua flags=allow-oom
-- Puts messages that a consumer had fetched back into their list: at the head, in their order, or at the end.
-- KEYS: fetched, messages, waiting, wake.  ARGV: consumer, lpush or rpush, most wake tokens, ids.
local given = 0
for i = #ARGV, 4, -1 do
    if redis.call("hget", KEYS[1], ARGV[i]) == ARGV[1] then
        redis.call("hdel", KEYS[1], ARGV[i])
        if redis.call("hexists", KEYS[2], ARGV[i]) > 0 then
            redis.call(ARGV[2], KEYS[3], ARGV[i])
            given = given + 1
        end
    end
end
local missing = tonumber(ARGV[3]) - redis.call("llen", KEYS[4])
for _ = 1, math.min(given, missing) do
    redis.call("rpush", KEYS[4], "1")
end
return given
