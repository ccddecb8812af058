"""The leader's lease: a key in Redis that its holder has to renew before it expires."""

from __future__ import annotations

from enum import IntEnum

import redis

from atm.broker import keys
from atm.broker.connection import translated
from atm.broker.scripts import Scripts


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
        self._scripts = Scripts(client)

    @translated
    def hold(self) -> Hold:
        """Takes the lease, or renews it."""
        return Hold(self._scripts.run("hold_lease", [self._key], [self._holder, self._lifetime_ms]))

    @translated
    def release(self) -> None:
        """Gives the lease up, so that another can take it at once."""
        self._scripts.run("release_lease", [self._key], [self._holder])
