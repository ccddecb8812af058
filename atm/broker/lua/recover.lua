#!lua flags=allow-oom
-- Puts back what silent consumers had fetched, at the head of their queues, and forgets them.
-- KEYS: heartbeats, then for each queue waiting, messages, wake.
-- ARGV: silent for how many ms, most wake tokens, then for each queue what stands
--       before and after a consumer's id in the name of the set of what it fetched.
-- Returns how many messages it put back.
local time = redis.call("time")
local long_ago = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[1])
local sum = 0
for _, consumer in ipairs(redis.call("zrangebyscore", KEYS[1], "-inf", long_ago)) do
    for base = 2, #KEYS, 3 do
        local place = 3 + (base - 2) / 3 * 2
        local fetched = ARGV[place] .. consumer .. ARGV[place + 1]
        local given = 0
        for _, id in ipairs(redis.call("smembers", fetched)) do
            if redis.call("hexists", KEYS[base + 1], id) > 0 then
                redis.call("lpush", KEYS[base], id)
                given = given + 1
            end
        end
        redis.call("del", fetched)
        local missing = tonumber(ARGV[2]) - redis.call("llen", KEYS[base + 2])
        for _ = 1, math.min(given, missing) do
            redis.call("rpush", KEYS[base + 2], "1")
        end
        sum = sum + given
    end
    redis.call("zrem", KEYS[1], consumer)
end
return sum
