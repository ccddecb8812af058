"""Clients of Redis, all made alike, and what becomes of their errors.

Nothing above this folder knows redis-py: what it raises leaves as a
BrokerUnavailableError.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from atm.broker.address import (
    CLUSTER_SCHEMES,
    SENTINEL_SCHEME,
    is_cluster,
    parse_cluster_url,
    parse_sentinel_url,
)
from atm.broker.cluster import connect_to_cluster
from atm.errors import BrokerUnavailableError

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

#: Redis answers in a millisecond or is in trouble; a caller can go on without it.
CONNECT_SECONDS = 1.0
#: Longer than any blocking command here (prefetcher.BLOCK_SECONDS).
ANSWER_SECONDS = 2.5
#: How long Redis is left alone after a call that failed.
PAUSE_SECONDS = 0.5


def connect(url: str, prefix: str) -> redis.Redis:
    """A pooled client of the Redis at this URL. Connects when first used.

    `redis+sentinel://host:port,host:port/service/db` asks the Sentinels which
    one is the master, and `redis+cluster://host:port,host:port` the cluster
    which one has the keys of `prefix`, each time that it connects.
    """
    patience: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
        # One new try for a pooled connection that the server has closed, ...
        # but none after a silence: whoever asked has waited for long enough.
        "retry": Retry(ExponentialBackoff(cap=0.1, base=0.01), 1, supported_errors=(redis.ConnectionError,)),
    }
    # ... or that leads to what was the master before a failover.
    options = {**patience, "retry_on_error": [redis.exceptions.ReadOnlyError]}
    if is_cluster(url):
        return connect_to_cluster(parse_cluster_url(url), prefix, patience)
    if not url.startswith(SENTINEL_SCHEME):
        return redis.Redis.from_url(url, **options)
    address = parse_sentinel_url(url)
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        address.sentinels,
        # Not redis-py's own, which waits for seconds between its tries, for each Sentinel that is away.
        sentinel_kwargs=patience,
        username=address.username,
        password=address.password,
        db=address.db,
        **options,
    )
    master: redis.Redis = sentinel.master_for(address.service)  # type: ignore[no-untyped-call]
    return master


def translated(call: Callable[P, R]) -> Callable[P, R]:
    """The same function, raising BrokerUnavailableError for every error of redis-py."""

    @functools.wraps(call)
    def at_the_edge(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return call(*args, **kwargs)
        except redis.RedisError as error:
            raise BrokerUnavailableError(
                f"Redis cannot be used: {_said_of(error)}", retry_after=PAUSE_SECONDS
            ) from error

    return at_the_edge


def _said_of(error: redis.RedisError) -> str:
    if isinstance(error, redis.exceptions.MovedError):
        form = f"{CLUSTER_SCHEMES[0]}host:port,host:port"
        return f"it is a cluster ({error}): --redis / REDIS_ADDR names one as {form}"
    return str(error)


def raise_first(answers: Iterable[object]) -> None:
    """Raises the first error among the answers to a pipeline."""
    for answer in answers:
        if isinstance(answer, redis.RedisError):
            raise answer


class Refusals:
    """What Redis refuses of that which the rest can do without: each said once, until it works again."""

    def __init__(self, level: int = logging.WARNING) -> None:
        self._level = level
        self._known: set[str] = set()

    def note(self, what: str, answer: object) -> bool:
        """Takes note of the answer to a command; whether it was an error of Redis."""
        if not isinstance(answer, redis.RedisError):
            self._known.discard(what)
            return False
        if what not in self._known:
            self._known.add(what)
            logger.log(self._level, "Redis refuses %s: %s", what, answer)
        return True


class CircuitBreaker:
    """Leaves a Redis that failed alone for a while, so that callers do not each wait for its timeout.

    Says once in the log that Redis is away, and once that it is back.
    `pause` is in seconds. Safe to use from several threads.
    """

    def __init__(self, consequence: str, pause: float = PAUSE_SECONDS) -> None:
        self._consequence = consequence
        self._pause = pause
        self._open_until = float("-inf")
        self._is_away = False

    def call(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What `work` returns for these. Raises BrokerUnavailableError: at once while Redis is left alone."""
        if time.monotonic() < self._open_until:
            raise BrokerUnavailableError("Redis did not answer a moment ago", retry_after=self._pause)
        try:
            result = work(*args, **kwargs)
        except BrokerUnavailableError as error:
            self._open_until = time.monotonic() + self._pause
            if not self._is_away:
                logger.warning("%s; %s", error, self._consequence)
            self._is_away = True
            raise
        if self._is_away:
            logger.info("Redis is back")
            self._is_away = False
        return result

    def insist(self, leaving: threading.Event, work: Callable[..., R], *args: Any) -> R | None:
        """What `work` returns, tried until Redis takes it; None when `leaving` is set before."""
        while True:
            try:
                return self.call(work, *args)
            except BrokerUnavailableError:
                if leaving.wait(self._pause):
                    return None


class Subscription:
    """What is published on a channel, one text at a time. Subscribes when it is read, also after errors."""

    def __init__(self, client: redis.Redis, channel: str) -> None:
        self._client = client
        self._channel = channel
        self._pubsub: redis.client.PubSub | None = None

    @translated
    def next(self, seconds: float) -> str | None:
        """The next text, or None when there was none for this long. Raises BrokerUnavailableError."""
        try:
            if self._pubsub is None:
                self._pubsub = self._client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
                self._pubsub.subscribe(self._channel)
            message = self._pubsub.get_message(timeout=seconds)
        except redis.RedisError:
            self.close()
            raise
        # Whoever publishes what is no text means no task.
        return None if message is None else bytes(message["data"]).decode(errors="replace")

    def close(self) -> None:
        """Ends the subscription."""
        subscription, self._pubsub = self._pubsub, None
        if subscription is not None:
            with suppress(redis.RedisError):
                subscription.close()
