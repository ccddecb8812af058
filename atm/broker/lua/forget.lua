#!lua flags=allow-oom
-- Forgets consumers, but not those that have spoken meanwhile.
-- KEYS: consumers.  ARGV: silent for how many ms, ids of consumers.
local time = redis.call("time")
local long_ago = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[1])
for i = 2, #ARGV do
    local heard_at = redis.call("zscore", KEYS[1], ARGV[i])
    if heard_at and tonumber(heard_at) <= long_ago then
        redis.call("zrem", KEYS[1], ARGV[i])
    end
end
return #ARGV - 1
