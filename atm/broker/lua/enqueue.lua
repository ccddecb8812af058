-- Queues a message, unless one with its id is queued or fetched already.
-- KEYS: waiting, messages, wake.  ARGV: message id, message, most tokens.
-- Returns 1 if it was queued, 0 if it was there.
if redis.call("hsetnx", KEYS[2], ARGV[1], ARGV[2]) == 0 then
    return 0
end
redis.call("rpush", KEYS[1], ARGV[1])
if redis.call("llen", KEYS[3]) < tonumber(ARGV[3]) then
    redis.call("rpush", KEYS[3], "1")
end
return 1
