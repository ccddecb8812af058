-- Puts fetched messages back where they were: at the head, in their order.
-- KEYS: fetched, messages, waiting, wake.  ARGV: ids.
local given = 0
for i = #ARGV, 1, -1 do
    if redis.call("srem", KEYS[1], ARGV[i]) > 0 and redis.call("hexists", KEYS[2], ARGV[i]) > 0 then
        redis.call("lpush", KEYS[3], ARGV[i])
        redis.call("rpush", KEYS[4], "1")
        given = given + 1
    end
end
return given
