"""The consumer that Dramatiq's threads take messages from, and give them back to when they are done."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import redis
from dramatiq.broker import Consumer, MessageProxy

from atm.broker.dispenser import Settled, TaskMessage
from atm.states import FINAL

if TYPE_CHECKING:
    from atm.broker.broker import TaskBroker

logger = logging.getLogger(__name__)

#: Between two tries to reach a Redis that is gone.
RECONNECT_SECONDS = 0.5
#: How often a consumer that takes nothing looks whether it shall end.
_IDLE_SECONDS = 1.0


class TaskConsumer(Consumer):
    """The consumer of one queue: takes from the shared dispenser, acknowledges its own.

    It lives through an outage of Redis: it never lets Dramatiq see the error,
    because Dramatiq would sleep three seconds (fetching) or hold a thread
    (acknowledging).
    """

    def __init__(self, broker: TaskBroker, queue_name: str) -> None:
        self._broker = broker
        self._queue = queue_name
        self._down = False
        # One thread takes for all queues: two would only wake each other. Nor is
        # there anything in the queues for delays that Dramatiq adds: ATM's wait in SQL.
        self._takes = not queue_name.endswith(".DQ") and broker.dispenser.add_queue(queue_name)

    def __next__(self) -> MessageProxy | None:
        if not self._takes:
            time.sleep(_IDLE_SECONDS)
            return None
        try:
            message = self._broker.dispenser.take()
        except redis.RedisError as error:
            if not self._down:
                logger.warning(
                    "Redis cannot be used (%s); trying again every %.1f s", error, RECONNECT_SECONDS
                )
            self._down = True
            time.sleep(RECONNECT_SECONDS)
            return None
        if self._down:
            logger.info("Redis is back")
            self._down = False
        return message

    def ack(self, message: MessageProxy) -> None:
        """Its thread is free at once; Redis is told when what it did is committed."""
        assert isinstance(message, TaskMessage), "it came from the dispenser"
        self._broker.dispenser.release(message)
        if message.revoked and message.settled is None:
            return  # it is somebody else's
        if message.settled is None:
            self._broker.acknowledge_later(message)
        else:
            message.settled.add_done_callback(lambda settled: self._acknowledge(message, settled))

    # The state of a task is in SQL: a dead-letter queue would be a second opinion.
    nack = ack

    def _acknowledge(self, message: TaskMessage, settled: Settled) -> None:
        # What could not be committed was not done: the message stays.
        if settled.exception() is None:
            self._broker.acknowledge_later(message, over=settled.result() in FINAL)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Dramatiq stops and has not started these. What is claimed is handed back in SQL."""
        with suppress(redis.RedisError):
            self._broker.put_back([m for m in messages if isinstance(m, TaskMessage) and m.claim is None])

    def close(self) -> None:
        """Nothing of its own to close."""
