"""The leader's lease: a key in Redis that its holder has to renew before it expires."""

from __future__ import annotations

from enum import IntEnum

import redis

from atm.broker import keys
from atm.broker.connection import translated

# KEYS: lease.  ARGV: holder, lifetime in ms.  0 if another has the lease, 1 if
# the holder has just taken it, 2 if it had it already.
_HOLD = """
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
"""
# KEYS: lease.  ARGV: holder.  Gives up the lease, if the holder has it.
_RELEASE = """
if redis.call("get", KEYS[1]) == ARGV[1] then
    return redis.call("del", KEYS[1])
end
return 0
"""


class Hold(IntEnum):
    """What became of asking for the lease."""

    REFUSED = 0
    # Nobody had it. If the holder thought that it did, others may have had it meanwhile.
    TAKEN = 1
    RENEWED = 2


class Lease:
    """Held by one holder at a time, for `lifetime_ms` since it was last asked for.

    Both methods raise BrokerUnavailableError when Redis is out of reach.
    """

    def __init__(self, client: redis.Redis, prefix: str, holder: str, lifetime_ms: int) -> None:
        self._key = keys.leader_lease(prefix)
        self._holder = holder
        self._lifetime_ms = lifetime_ms
        self._hold_script = client.register_script(_HOLD)
        self._release_script = client.register_script(_RELEASE)

    @translated
    def hold(self) -> Hold:
        """Takes the lease, or renews it."""
        return Hold(self._hold_script(keys=[self._key], args=[self._holder, self._lifetime_ms]))

    @translated
    def release(self) -> None:
        """Gives the lease up, so that another can take it at once."""
        self._release_script(keys=[self._key], args=[self._holder])
