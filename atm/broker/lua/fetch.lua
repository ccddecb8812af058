#!lua flags=allow-oom
-- Takes up to `wanted` messages, the urgent queue first, and marks them fetched.
-- After `share` messages of the urgent queue in a row, the other goes first once.
-- KEYS: heartbeats, then for each queue, most urgent first:
--       waiting, messages, fetched, wake.
-- ARGV: consumer, wanted, streak (urgent messages since the last other one),
--       share, prefix of the cancel flags.
-- Returns the new streak, then for each message its id, the message, and its
-- task's cancel flag ("" when it is not up). When it found none, the wake tokens
-- are gone too, so that the next token means a new message.
-- In the time of Redis: consumers are compared with each other.
local time = redis.call("time")
redis.call("zadd", KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
local wanted = tonumber(ARGV[2])
local streak = tonumber(ARGV[3])
local share = tonumber(ARGV[4])
local flags = ARGV[5]
local queues = (#KEYS - 1) / 4

local function take(queue)
    local base = 2 + (queue - 1) * 4
    while true do
        local id = redis.call("lpop", KEYS[base])
        if not id then
            return nil
        end
        local message = redis.call("hget", KEYS[base + 1], id)
        if message then
            redis.call("sadd", KEYS[base + 2], id)
            -- An id is that of the task, a colon, and the attempt.
            return id, message, redis.call("get", flags .. string.match(id, "^[^:]*")) or ""
        end
    end
end

local answer = { streak }
while #answer - 1 < 3 * wanted do
    local first, last, step = 1, queues, 1
    if streak >= share then
        first, last, step = queues, 1, -1
    end
    local id, message, flag
    for queue = first, last, step do
        id, message, flag = take(queue)
        if message then
            streak = (queue == 1 and queues > 1) and streak + 1 or 0
            break
        end
    end
    if not message then
        break
    end
    answer[#answer + 1] = id
    answer[#answer + 1] = message
    answer[#answer + 1] = flag
end
if wanted > 0 and #answer == 1 then
    for queue = 1, queues do
        redis.call("del", KEYS[5 + (queue - 1) * 4])
    end
end
answer[1] = streak
return answer
