#!lua flags=allow-oom
-- What consumers that are silent had fetched. Changes nothing.
-- KEYS: consumers, fetched, messages.  ARGV: silent for how many ms.
-- Returns how many consumers are silent and their ids, then for each message its
-- consumer, its id, and the message ("" when there is none).
local time = redis.call("time")
local long_ago = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[1])
local silent = redis.call("zrangebyscore", KEYS[1], "-inf", long_ago)
local answer, is_silent = { #silent }, {}
for _, consumer in ipairs(silent) do
    answer[#answer + 1] = consumer
    is_silent[consumer] = true
end
if #silent > 0 then
    local fetched = redis.call("hgetall", KEYS[2])
    for i = 1, #fetched, 2 do
        if is_silent[fetched[i + 1]] then
            answer[#answer + 1] = fetched[i + 1]
            answer[#answer + 1] = fetched[i]
            answer[#answer + 1] = redis.call("hget", KEYS[3], fetched[i]) or ""
        end
    end
end
return answer
