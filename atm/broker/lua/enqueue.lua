-- Queues messages, but not those whose id is queued or fetched already.
-- KEYS: for each queue waiting, messages, wake.  ARGV: most wake tokens, then
-- for each message the number of its queue (from 0), its id, the message.
-- Returns how many were queued.
local queued = {}
local sum = 0
for i = 2, #ARGV, 3 do
    local base = tonumber(ARGV[i]) * 3
    if redis.call("hsetnx", KEYS[base + 2], ARGV[i + 1], ARGV[i + 2]) == 1 then
        redis.call("rpush", KEYS[base + 1], ARGV[i + 1])
        queued[base] = (queued[base] or 0) + 1
        sum = sum + 1
    end
end
for base, count in pairs(queued) do
    local missing = tonumber(ARGV[1]) - redis.call("llen", KEYS[base + 3])
    for _ = 1, math.min(count, missing) do
        redis.call("rpush", KEYS[base + 3], "1")
    end
end
return sum
