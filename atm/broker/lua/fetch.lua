#!lua flags=allow-oom
-- Takes up to `wanted` messages and marks them fetched: High ones first, of
-- those of one priority the one with the oldest id, which begins with the time
-- at which its task was made. After `share` High ones in a row a Normal one goes
-- first once.
-- KEYS: consumers, messages, fetched, cancelled, then the lists of High tasks,
--       those of Normal ones, and the wake lists.
-- ARGV: consumer, wanted, streak (High messages since the last Normal one),
--       share, how many lists of High tasks, how many of Normal ones.
-- Returns the new streak, then for each message its id, the message, and its
-- task's cancel flag ("" when it is not up). When it found none, the wake tokens
-- are gone too, so that the next token means a new message.
-- In the time of Redis: consumers are compared with each other.
local time = redis.call("time")
redis.call("zadd", KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
local wanted = tonumber(ARGV[2])
local streak = tonumber(ARGV[3])
local share = tonumber(ARGV[4])
local first_normal = 5 + tonumber(ARGV[5])
local first_wake = first_normal + tonumber(ARGV[6])

-- The id at the head of each list; false where there is none.
local heads = {}
if wanted > 0 then
    for i = 5, first_wake - 1 do
        heads[i] = redis.call("lindex", KEYS[i], 0)
    end
end

-- The next message of these lists, or nothing.
local function take(first, last)
    while true do
        local oldest
        for i = first, last do
            if heads[i] and (not oldest or heads[i] < heads[oldest]) then
                oldest = i
            end
        end
        if not oldest then
            return nil
        end
        local id = redis.call("lpop", KEYS[oldest])
        heads[oldest] = redis.call("lindex", KEYS[oldest], 0)
        local message = redis.call("hget", KEYS[2], id)
        if message then
            redis.call("hset", KEYS[3], id, ARGV[1])
            -- An id is that of the task, a colon, and the attempt.
            return id, message, redis.call("hget", KEYS[4], string.match(id, "^[^:]*")) or ""
        end
    end
end

local function take_high()
    return take(5, first_normal - 1)
end

local function take_normal()
    return take(first_normal, first_wake - 1)
end

local answer = { streak }
while #answer - 1 < 3 * wanted do
    local normal_first = streak >= share
    local is_high = not normal_first
    local id, message, flag = (normal_first and take_normal or take_high)()
    if not message then
        is_high = not is_high
        id, message, flag = (normal_first and take_high or take_normal)()
    end
    if not message then
        break
    end
    streak = is_high and streak + 1 or 0
    answer[#answer + 1] = id
    answer[#answer + 1] = message
    answer[#answer + 1] = flag
end
if wanted > 0 and #answer == 1 then
    for i = first_wake, #KEYS do
        redis.call("del", KEYS[i])
    end
end
answer[1] = streak
return answer
