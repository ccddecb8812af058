"""News of tasks that have ended. SQL has it; through Redis those who wait learn it at once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

import redis

from atm.broker import keys

logger = logging.getLogger(__name__)

RECONNECT_SECONDS = 1.0
#: How often the thread looks whether it shall end.
_LOOK_SECONDS = 1.0


def notify_ended(client: redis.client.Pipeline | redis.Redis, prefix: str, task_ids: Sequence[str]) -> None:
    """Tells whoever listens. Raises redis.RedisError."""
    client.publish(keys.ended_channel(prefix), " ".join(task_ids))


class NotificationListener:
    """One thread with one subscription; `hear` is called in it with the ids of tasks that have ended."""

    def __init__(self, client: redis.Redis, prefix: str, hear: Callable[[list[str]], None]) -> None:
        self._client = client
        self._channel = keys.ended_channel(prefix)
        self._hear = hear
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="atm-endings", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Ends it."""
        self._stopping.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except redis.RedisError as error:
                logger.debug("news of endings cannot be heard: %s", error)
                self._stopping.wait(RECONNECT_SECONDS)

    def _listen(self) -> None:
        subscription: redis.client.PubSub = self._client.pubsub(  # type: ignore[no-untyped-call]
            ignore_subscribe_messages=True
        )
        try:
            subscription.subscribe(self._channel)
            while not self._stopping.is_set():
                message = subscription.get_message(timeout=_LOOK_SECONDS)
                if message is not None:
                    self._hear(str(message["data"], "ascii").split())
        finally:
            with suppress(redis.RedisError):
                subscription.close()
