"""Notifications of tasks that have ended: SQL has the end, through Redis those who wait learn of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import redis

from atm.broker import keys
from atm.broker.connection import Subscription

#: How long one `run_once` listens.
_LISTEN_SECONDS = 1.0


def notify_ended(client: redis.client.Pipeline | redis.Redis, prefix: str, task_ids: Sequence[str]) -> None:
    """Notifies whoever listens that these tasks may have ended."""
    client.publish(keys.ended_channel(prefix), " ".join(task_ids))


class NotificationListener:
    """A role that calls `hear`, in its thread, with the ids of tasks that may have ended."""

    interval = 0.0

    def __init__(self, client: redis.Redis, prefix: str, hear: Callable[[list[str]], None]) -> None:
        self._subscription = Subscription(client, keys.ended_channel(prefix))
        self._hear = hear

    def run_once(self) -> bool:
        """Listens for up to a second. Raises BrokerUnavailableError."""
        heard = self._subscription.next(_LISTEN_SECONDS)
        if heard is not None:
            self._hear(heard.split())
        return False

    def close(self) -> None:
        """Ends the subscription."""
        self._subscription.close()
