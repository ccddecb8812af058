#!lua flags=allow-oom
-- Gives up the lease, if the holder has it.
-- KEYS: lease.  ARGV: holder.
if redis.call("get", KEYS[1]) == ARGV[1] then
    return redis.call("del", KEYS[1])
end
return 0
