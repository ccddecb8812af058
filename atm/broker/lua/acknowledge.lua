#!lua flags=allow-oom
-- Forgets messages that are done with, unless others have them meanwhile.
-- KEYS: fetched, messages.  ARGV: consumer, ids.
for i = 2, #ARGV do
    if redis.call("hget", KEYS[1], ARGV[i]) == ARGV[1] then
        redis.call("hdel", KEYS[1], ARGV[i])
        redis.call("hdel", KEYS[2], ARGV[i])
    end
end
return #ARGV - 1
