"""Clients of Redis, all made alike."""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from atm.addresses import SENTINEL_SCHEME, parse_sentinel_url

#: Redis answers in a millisecond or is in trouble; a caller can go on without it.
CONNECT_SECONDS = 1.0
#: Longer than any blocking command here (consumer.BLOCK_SECONDS).
ANSWER_SECONDS = 5.0


def connect(url: str) -> redis.Redis:
    """A pooled client of the Redis at this URL. Connects when first used.

    `redis+sentinel://host:port,host:port/service/db` asks the Sentinels which
    one is the master, each time that it connects.
    """
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
        # One new try for a pooled connection that the server has closed, ...
        "retry": Retry(ExponentialBackoff(cap=0.1, base=0.01), 1),
        # ... or that leads to what was the master before a failover.
        "retry_on_error": [redis.exceptions.ReadOnlyError],
    }
    if not url.startswith(SENTINEL_SCHEME):
        return redis.Redis.from_url(url, **options)
    address = parse_sentinel_url(url)
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        address.sentinels,
        sentinel_kwargs={"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": ANSWER_SECONDS},
        username=address.username,
        password=address.password,
        db=address.db,
        **options,
    )
    master: redis.Redis = sentinel.master_for(address.service)  # type: ignore[no-untyped-call]
    return master
