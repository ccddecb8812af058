"""The Dramatiq broker of ATM: tasks in as messages, and consumers that wake at once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.resources import files
from typing import Any

import redis
from dramatiq import Message, Middleware
from dramatiq.brokers.redis import MAINTENANCE_SCALE, RedisBroker
from dramatiq.common import current_millis

from atm.broker import keys
from atm.broker.connection import connect
from atm.broker.consumer import Dispenser, TaskConsumer

#: Enough to wake every consumer of a large installation; more would only be
#: empty fetches later.
MAX_WAKE_TOKENS = 64
#: A flood of High tasks leaves Normal ones one start in nine: 8 High, 1 Normal.
HIGH_PER_NORMAL = 8


def _script(name: str) -> str:
    return files("atm.broker.lua").joinpath(f"{name}.lua").read_text(encoding="utf-8")


class TaskBroker(RedisBroker):
    """Dramatiq's Redis broker, with three differences.

    A message's id is given by its attempt, so a second copy is noticed. A
    consumer takes only what a thread is free for, the High queue first. A
    consumer with nothing to do blocks on Redis instead of sleeping.

    `consumer_timeout` is the number of seconds after which the messages that a
    silent consumer had fetched go back to their queue (see `recover`).
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        middleware: list[Middleware] | None = None,
        consumer_timeout: float = 8.0,
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            client=connect(url),
            middleware=middleware or [],
            namespace=prefix,
            # Recovery is asked for by the scheduler, not left to chance.
            maintenance_chance=0,
            heartbeat_timeout=round(consumer_timeout * 1000),
        )
        self._enqueue_script = self.client.register_script(_script("enqueue"))
        self._fetch_script = self.client.register_script(_script("fetch"))
        self.dispenser = Dispenser(self.fetch, self.wait_for_message)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> TaskConsumer:
        """A consumer of one queue. All of a process share its dispenser."""
        return TaskConsumer(self, self.dispenser, queue_name)

    # -- in ---------------------------------------------------------------

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Queues one message. Raises ValueError for a delay: what waits, waits in SQL."""
        if delay is not None:
            raise ValueError("delayed messages are not supported: set due_at of the task")
        message = message.copy(options={"redis_message_id": message.message_id})
        self.emit_before("enqueue", message, delay)
        self._enqueue_script(**self._enqueue_call(message))
        self.emit_after("enqueue", message, delay)
        return message

    def send(self, tasks: Sequence[tuple[str, int, int]]) -> int:
        """Queues a message for each (task id, attempt, priority), in one round trip.

        Returns how many were not queued already. Raises redis.RedisError.
        """
        if not tasks:
            return 0
        calls = [self._enqueue_call(task_message(*task)) for task in tasks]
        if len(calls) == 1:
            return int(self._enqueue_script(**calls[0]))
        with self.client.pipeline(transaction=False) as pipeline:
            for call in calls:
                self._enqueue_script(**call, client=pipeline)
            return sum(int(added) for added in pipeline.execute())

    def _enqueue_call(self, message: Message[Any]) -> dict[str, Any]:
        queue = message.queue_name
        return {
            "keys": [
                keys.waiting(self.namespace, queue),
                keys.messages(self.namespace, queue),
                keys.wake(self.namespace, queue),
            ],
            "args": [message.options["redis_message_id"], message.encode(), MAX_WAKE_TOKENS],
        }

    # -- out --------------------------------------------------------------

    def fetch(self, queues: Iterable[str], wanted: int, streak: int) -> tuple[int, list[bytes]]:
        """Takes up to `wanted` messages from these queues; see fetch.lua. Also a sign of life."""
        ordered = [queue for queue in keys.QUEUES_BY_URGENCY if queue in queues]
        names = [keys.heartbeats(self.namespace)]
        for queue in ordered:
            names += [
                keys.waiting(self.namespace, queue),
                keys.messages(self.namespace, queue),
                keys.fetched(self.namespace, self.broker_id, queue),
                keys.wake(self.namespace, queue),
            ]
        args: list[int | str] = [current_millis(), self.broker_id, wanted, streak, HIGH_PER_NORMAL]
        answer = self._fetch_script(keys=names, args=args)
        return int(answer[0]), list(answer[1:])

    def wait_for_message(self, queues: Iterable[str], seconds: float) -> None:
        """Returns when a message was queued, or after `seconds`."""
        names = [keys.wake(self.namespace, queue) for queue in queues]
        if names:
            self.client.blpop(names, timeout=seconds)
        else:
            time.sleep(seconds)

    def recover(self) -> None:
        """Puts back what silent consumers had fetched. Harmless to repeat."""
        # Dramatiq's own maintenance, made certain for this one harmless command.
        self.maintenance_chance = MAINTENANCE_SCALE
        try:
            for queue in keys.QUEUES_BY_URGENCY:
                self.do_qsize(queue)
        finally:
            self.maintenance_chance = 0

    def give_back(self) -> None:
        """Puts what was fetched and not started back into its queue; `recover` does it if Redis is gone."""
        for message in self.dispenser.leftovers():
            with suppress(redis.RedisError):
                self.do_requeue(message.queue_name, message.options["redis_message_id"])

    def close(self) -> None:
        """Closes the connections."""
        self.client.close()


def task_message(task_id: str, attempt: int, priority: int) -> Message[Any]:
    """The message that asks for an attempt of a task."""
    queue = keys.queue_of(priority)
    name = keys.message_id(task_id, attempt)
    return Message(
        queue_name=queue,
        actor_name=keys.actor_of(queue),
        args=(task_id, attempt),
        kwargs={},
        options={"redis_message_id": name},
        message_id=name,
    )
