-- Queues messages, but not those whose id is queued or fetched already, nor
-- those for whose list there is no room. A list that was full takes what the
-- relay sends, in the order in which it was created, until the relay has
-- nothing more for it; whatever else comes waits its turn in SQL.
-- KEYS: messages, full, then for each list waiting, wake.
-- ARGV: most wake tokens, most messages in a list, "1" when the relay sends, then
--       for each message the number of its list (from 0), its id, the message.
-- Returns how many were queued, then the numbers (from 0) of the messages that
-- there was no room for.
local room, behind, queued = {}, {}, {}
local answer = { 0 }
for i = 4, #ARGV, 3 do
    local base = 3 + 2 * tonumber(ARGV[i])
    local list, id = KEYS[base], ARGV[i + 1]
    if room[base] == nil then
        room[base] = tonumber(ARGV[2]) - redis.call("llen", list)
        behind[base] = ARGV[3] ~= "1" and redis.call("sismember", KEYS[2], list) == 1
    end
    if room[base] <= 0 or behind[base] then
        if redis.call("hexists", KEYS[1], id) == 0 then
            redis.call("sadd", KEYS[2], list)
            answer[#answer + 1] = (i - 4) / 3
        end
    elseif redis.call("hsetnx", KEYS[1], id, ARGV[i + 2]) == 1 then
        redis.call("rpush", list, id)
        room[base] = room[base] - 1
        queued[base] = (queued[base] or 0) + 1
        answer[1] = answer[1] + 1
    end
end
for base, count in pairs(queued) do
    local missing = tonumber(ARGV[1]) - redis.call("llen", KEYS[base + 1])
    for _ = 1, math.min(count, missing) do
        redis.call("rpush", KEYS[base + 1], "1")
    end
end
return answer
