-- Raises the cancel flag of a task, and takes away some that nobody needs any more.
-- KEYS: cancelled, cancelled-until.  ARGV: task, who asked, how many seconds it is of use, how many to take away.
local now = tonumber(redis.call("time")[1])
for _, old in ipairs(redis.call("zrangebyscore", KEYS[2], "-inf", now, "limit", 0, ARGV[4])) do
    redis.call("zrem", KEYS[2], old)
    redis.call("hdel", KEYS[1], old)
end
redis.call("zadd", KEYS[2], now + tonumber(ARGV[3]), ARGV[1])
redis.call("hset", KEYS[1], ARGV[1], ARGV[2])
return 1
