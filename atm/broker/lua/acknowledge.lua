#!lua flags=allow-oom
-- Forgets messages that are done with, unless they were put back meanwhile.
-- KEYS: fetched, messages.  ARGV: ids.
for i = 1, #ARGV do
    if redis.call("srem", KEYS[1], ARGV[i]) > 0 then
        redis.call("hdel", KEYS[2], ARGV[i])
    end
end
return #ARGV
