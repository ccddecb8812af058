"""Clients of Redis, all made alike."""

from __future__ import annotations

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

#: Redis answers in a millisecond or is in trouble; a caller can go on without it.
CONNECT_SECONDS = 1.0
#: Longer than any blocking command here (consumer.BLOCK_SECONDS).
ANSWER_SECONDS = 5.0


def connect(url: str) -> redis.Redis:
    """A pooled client of the Redis at this URL. Connects when first used."""
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        # One new try for a pooled connection that the server has closed.
        retry=Retry(ExponentialBackoff(cap=0.1, base=0.01), 1),
    )
