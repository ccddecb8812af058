#!lua flags=allow-oom
-- Takes the lease, or renews it.
-- KEYS: lease.  ARGV: holder, lifetime in ms.  0 if another has the lease, 1 if
-- the holder has just taken it, 2 if it had it already.
local holder = redis.call("get", KEYS[1])
if not holder then
    redis.call("set", KEYS[1], ARGV[1], "px", ARGV[2])
    return 1
end
if holder == ARGV[1] then
    redis.call("pexpire", KEYS[1], ARGV[2])
    return 2
end
return 0
