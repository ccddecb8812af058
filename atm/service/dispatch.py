"""How tasks get their messages: at once if Redis answers, by the relay otherwise."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import redis

from atm.batching.batcher import Batcher
from atm.broker.broker import TaskBroker
from atm.broker.cancel_flags import CancelFlags
from atm.store.tasks import Dispatch

logger = logging.getLogger(__name__)

#: After a failure Redis is left alone for this long, so that calls do not each
#: wait for its timeout. SQL has everything; the relay makes up for it.
_PAUSE_SECONDS = 1.0


class Dispatcher:
    """Tells workers, through Redis, what SQL has already decided. Never raises for a Redis that is gone."""

    def __init__(self, broker: TaskBroker) -> None:
        self._broker = broker
        self._flags = CancelFlags(broker.client, broker.namespace)
        self._paused_until = float("-inf")
        self._posts = Batcher(self.send, name="atm-send")

    def start(self) -> None:
        """Starts the thread that sends what is posted."""
        self._posts.start()

    def close(self) -> None:
        """Sends what was posted, and ends the thread."""
        self._posts.close()

    def post(self, tasks: Sequence[Dispatch]) -> None:
        """Has the next attempt of each task queued soon, together with what others post."""
        self._posts.add(tasks)

    def send(self, tasks: Sequence[Dispatch]) -> bool:
        """Queues the next attempt of each task; False when Redis did not take them."""
        messages = [(task.task_id, task.next_attempt, task.priority) for task in tasks]
        return self._try(lambda: self._broker.send(messages))

    def flag_cancelled(self, task_id: str, requested_by: str) -> bool:
        """Raises the cancel flag of a task; False when Redis did not take it."""
        return self._try(lambda: self._flags.set(task_id, requested_by))

    def recover(self) -> bool:
        """Puts back the messages of silent consumers; False when Redis did not answer."""
        return self._try(self._broker.recover)

    def _try(self, call: Callable[[], object]) -> bool:
        if time.monotonic() < self._paused_until:
            return False
        try:
            call()
        except redis.RedisError as error:
            self._paused_until = time.monotonic() + _PAUSE_SECONDS
            logger.warning("Redis cannot be used (%s); tasks wait in SQL until it is back", error)
            return False
        return True
