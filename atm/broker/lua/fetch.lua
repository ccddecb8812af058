#!lua flags=allow-oom
-- Takes up to `wanted` messages and marks them fetched: High ones first, of
-- those of one priority the one with the oldest id, which begins with the time
-- at which its task was made. After `share` High ones in a row a Normal one goes
-- first once.
-- The same number as the time before means that its answer may not have arrived:
-- then what it gave out is given out again first, as far as it is still fetched.
-- KEYS: consumers, messages, fetched, cancelled, given, then the lists of High
--       tasks, those of Normal ones, and the wake lists.
-- ARGV: consumer, wanted, streak (High messages since the last Normal one),
--       share, how many lists of High tasks, how many of Normal ones, number,
--       for how many seconds what was given out is remembered.
-- Returns the new streak, then for each message its id, the message, and its
-- task's cancel flag ("" when it is not up). When it found none, the wake tokens
-- are gone too, so that the next token means a new message.
-- In the time of Redis: consumers are compared with each other.
local time = redis.call("time")
redis.call("zadd", KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
local wanted = tonumber(ARGV[2])
local streak = tonumber(ARGV[3])
local share = tonumber(ARGV[4])
local first_high = 6
local first_normal = first_high + tonumber(ARGV[5])
local first_wake = first_normal + tonumber(ARGV[6])

-- The id at the head of each list; false where there is none.
local heads = {}
if wanted > 0 then
    for i = first_high, first_wake - 1 do
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
    return take(first_high, first_normal - 1)
end

local function take_normal()
    return take(first_normal, first_wake - 1)
end

local answer = { streak }

local function give(id, message, flag)
    answer[#answer + 1] = id
    answer[#answer + 1] = message
    answer[#answer + 1] = flag
end

-- What was given out under this number: number, then ids.
local given = wanted > 0 and redis.call("lrange", KEYS[5], 0, -1) or {}
if given[1] == ARGV[7] then
    for i = 2, #given do
        local message = redis.call("hget", KEYS[3], given[i]) == ARGV[1] and redis.call("hget", KEYS[2], given[i])
        if message then
            give(given[i], message, redis.call("hget", KEYS[4], string.match(given[i], "^[^:]*")) or "")
        end
    end
end
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
    give(id, message, flag)
end
if wanted > 0 and #answer > 1 then
    redis.call("del", KEYS[5])
    local ids = { ARGV[7] }
    for i = 2, #answer, 3 do
        ids[#ids + 1] = answer[i]
    end
    redis.call("rpush", KEYS[5], unpack(ids))
    redis.call("expire", KEYS[5], ARGV[8])
end
if wanted > 0 and #answer == 1 then
    for i = first_wake, #KEYS do
        redis.call("del", KEYS[i])
    end
end
answer[1] = streak
return answer
