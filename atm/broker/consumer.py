"""How a worker process takes messages: as many as it has free threads, no more.

Dramatiq runs a consumer thread per queue and prefetches for each. Here all
consumer threads of a process share one `Dispenser`. Nothing waits in a
process while a thread elsewhere is free, and a High task that arrives is next.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import redis
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.message import Message

if TYPE_CHECKING:
    from atm.broker.broker import TaskBroker

logger = logging.getLogger(__name__)

#: The longest that a consumer blocks. It bounds how long a stopping process
#: waits for its consumers, and how often an idle one speaks.
BLOCK_SECONDS = 1.0
#: Between two tries to reach a Redis that is gone.
RECONNECT_SECONDS = 0.5

Fetch = Callable[[Iterable[str], int, int], tuple[int, list[bytes]]]
Wait = Callable[[Iterable[str], float], None]


class Dispenser:
    """Hands out messages to the threads of one process.

    `capacity` is how many may be out at once; it is set when the worker boots.
    """

    def __init__(self, fetch: Fetch, wait: Wait) -> None:
        self._fetch = fetch
        self._wait = wait
        self.capacity = 1
        self._queues: set[str] = set()
        self._out: set[str] = set()
        self._ready: deque[bytes] = deque()
        self._streak = 0
        self._stopping = False
        self._changed = threading.Condition()
        # One consumer thread at a time talks to Redis for all of them.
        self._turn = threading.Lock()

    def add_queue(self, queue: str) -> None:
        """From now on messages of this queue are taken too."""
        self._queues.add(queue)

    def stop(self) -> None:
        """No message is handed out from now on."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def take(self) -> MessageProxy | None:
        """The next message, or None when there was none for BLOCK_SECONDS at the most."""
        if self._stopping or not self._turn.acquire(timeout=BLOCK_SECONDS):
            # Stopping: a consumer thread asks again until it is told to end.
            time.sleep(0.01)
            return None
        try:
            if not self._ready and not self._refill():
                return None
            message = MessageProxy(Message.decode(self._ready.popleft()))
        finally:
            self._turn.release()
        return message

    def release(self, redis_id: str) -> None:
        """The message is done with: its thread is free."""
        with self._changed:
            self._out.discard(redis_id)
            self._changed.notify_all()

    def leftovers(self) -> list[MessageProxy]:
        """Messages that were fetched and not handed out; they are forgotten here."""
        found = [MessageProxy(Message.decode(data)) for data in self._ready]
        self._ready.clear()
        return found

    def _refill(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or len(self._out) < self.capacity, BLOCK_SECONDS)
            if self._stopping:
                return False
            free = self.capacity - len(self._out)
        # With no thread free this only tells Redis that the process lives.
        self._streak, found = self._fetch(self._queues, max(0, free), self._streak)
        if not found:
            if free > 0:
                self._wait(self._queues, BLOCK_SECONDS)
            return False
        with self._changed:
            self._out.update(_redis_id(Message.decode(data)) for data in found)
        self._ready.extend(found)
        return True


def _redis_id(message: Message[Any] | MessageProxy) -> str:
    return str(message.options["redis_message_id"])


class TaskConsumer(Consumer):
    """The consumer of one queue: takes from the shared dispenser, acknowledges its own.

    It lives through an outage of Redis: it never lets Dramatiq see the error,
    because Dramatiq would sleep three seconds (fetching) or hold a thread
    (acknowledging). What could not be acknowledged is acknowledged later.
    """

    def __init__(self, broker: TaskBroker, dispenser: Dispenser, queue_name: str) -> None:
        self._broker = broker
        self._dispenser = dispenser
        self._queue = queue_name
        # Dramatiq adds a queue for delays to each; ATM's wait in SQL.
        self._delays = queue_name.endswith(".DQ")
        self._unacknowledged: deque[str] = deque()
        self._down = False
        if not self._delays:
            dispenser.add_queue(queue_name)

    def __next__(self) -> MessageProxy | None:
        if self._delays:
            time.sleep(BLOCK_SECONDS)
            return None
        try:
            self._acknowledge_rest()
            message = self._dispenser.take()
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
        redis_id = _redis_id(message)
        try:
            self._broker.do_ack(self._queue, redis_id)
        except redis.RedisError:
            self._unacknowledged.append(redis_id)
        finally:
            self._dispenser.release(redis_id)

    # The state of a task is in SQL: a dead-letter queue would be a second opinion.
    nack = ack

    def _acknowledge_rest(self) -> None:
        while self._unacknowledged:
            self._broker.do_ack(self._queue, self._unacknowledged[0])
            self._unacknowledged.popleft()

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        ids = [_redis_id(message) for message in messages]
        if ids:
            self._broker.do_requeue(self._queue, *ids)

    def close(self) -> None:
        """Nothing of its own to close."""
