"""The keys of ATM before it had a list for each type: what an upgraded installation still has there."""

from __future__ import annotations

import logging
from typing import Any

import redis

from atm.broker.connection import Refusals, translated

#: A consumer of the old keys that has spoken within this many seconds still works.
_ALIVE_SECONDS = 60
_QUEUES = ("high", "normal")


class OldLayout:
    """Reads what waits under the old keys, and takes it away. Methods raise BrokerUnavailableError."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._refusals = Refusals(logging.INFO)
        self._heartbeats = f"{prefix}:__heartbeats__"
        self._messages = [f"{prefix}:{queue}.msgs" for queue in _QUEUES]

    @translated
    def is_there(self) -> bool:
        """Whether there is anything under the old keys, and nobody of the old version who takes it.

        False, and said once, where they may not be looked at.
        """
        try:
            # One by one: they need not be in one place of a cluster.
            if not any(self._client.exists(name) for name in (*self._messages, self._heartbeats)):
                return False
        except redis.exceptions.NoPermissionError as error:
            self._refusals.note(f"a look at the keys of an older version ({self._prefix}:*)", error)
            return False
        seconds, _ = self._client.time()
        since = (seconds - _ALIVE_SECONDS) * 1000
        return not self._client.zcount(self._heartbeats, since, "+inf")

    @translated
    def waiting(self, limit: int) -> list[bytes]:
        """The ids of up to so many messages, waiting or fetched."""
        found: list[bytes] = []
        for name in self._messages:
            for field, _ in self._client.hscan_iter(name, count=limit):
                if len(found) == limit:
                    return found
                found.append(field if isinstance(field, bytes) else field.encode())
        return found

    @translated
    def forget(self, ids: list[bytes]) -> None:
        """Takes these messages away."""
        with self._client.pipeline(transaction=False) as pipeline:
            for name in self._messages:
                pipeline.hdel(name, *ids)
            pipeline.execute()

    @translated
    def remove(self) -> None:
        """Takes the rest away. Cancel flags expire by themselves."""
        names: Any = self._client.zrange(self._heartbeats, 0, -1)
        consumers = [_text(name) for name in names]
        fetched = [f"{self._prefix}:__acks__.{name}.{queue}" for name in consumers for queue in _QUEUES]
        lists = [f"{self._prefix}:{queue}{end}" for queue in _QUEUES for end in ("", ".wake")]
        with self._client.pipeline(transaction=False) as pipeline:
            # One by one: they need not be in one place of a cluster.
            for name in (*fetched, *lists, *self._messages, f"{self._prefix}:leader", self._heartbeats):
                pipeline.delete(name)
            pipeline.execute()


def _text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode(errors="replace")
