"""The Dramatiq broker of ATM: tasks in as messages, and consumers that wake at once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.resources import files
from typing import Any

import redis
from dramatiq import Message, Middleware
from dramatiq.brokers.redis import MAINTENANCE_SCALE, RedisBroker
from dramatiq.common import current_millis

from atm.broker import keys
from atm.broker.acknowledger import Acknowledger, Done
from atm.broker.connection import connect
from atm.broker.consumer import TaskConsumer
from atm.broker.dispenser import Dispenser, TaskMessage
from atm.broker.notifications import notify_ended

#: Enough to wake every consumer of a large installation; more would only be
#: empty fetches later.
MAX_WAKE_TOKENS = 64
#: A flood of High tasks leaves Normal ones one start in nine: 8 High, 1 Normal.
HIGH_PER_NORMAL = 8
#: A token that nobody took is of no use for longer.
_TOKEN_SECONDS = 60


def _script(name: str) -> str:
    return files("atm.broker.lua").joinpath(f"{name}.lua").read_text(encoding="utf-8")


class TaskBroker(RedisBroker):
    """Dramatiq's Redis broker, with four differences.

    A message's id is given by its attempt, so a second copy is noticed. A
    consumer takes little more than what a thread is free for, the High queue
    first. A consumer with nothing to do blocks on Redis instead of sleeping.
    Messages are acknowledged by the batch, after what they did was committed.

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
        self._acknowledge_script = _script("acknowledge")
        self._give_back_script = self.client.register_script(_script("give_back"))
        self.dispenser = Dispenser(self.fetch, self.wait_for_message, self.put_back)
        self.acknowledger = Acknowledger(self.acknowledge)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> TaskConsumer:
        """A consumer of one queue. All of a process share its dispenser."""
        return TaskConsumer(self, queue_name)

    # -- in ---------------------------------------------------------------

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Queues one message. Raises ValueError for a delay: what waits, waits in SQL."""
        if delay is not None:
            raise ValueError("delayed messages are not supported: set due_at of the task")
        message = message.copy(options={"redis_message_id": message.message_id})
        self.emit_before("enqueue", message, delay)
        number = keys.QUEUES_BY_URGENCY.index(message.queue_name)
        self._enqueue([number, message.message_id, message.encode()])
        self.emit_after("enqueue", message, delay)
        return message

    def send(self, tasks: Sequence[tuple[str, int, int]]) -> int:
        """Queues a message for each (task id, attempt, priority), in one round trip.

        Returns how many were not queued already. Raises redis.RedisError.
        """
        if not tasks:
            return 0
        numbers = {priority: keys.QUEUES_BY_URGENCY.index(keys.queue_of(priority)) for priority in (0, 1)}
        at = str(current_millis())
        args: list[int | str | bytes] = []
        for task_id, attempt, priority in tasks:
            # The id of the task last: it may hold any digits.
            text = _template(priority).replace(_ATTEMPT, str(attempt)).replace(_MOMENT, at)
            args += [
                numbers[priority],
                keys.message_id(task_id, attempt),
                text.replace(_TASK, task_id),
            ]
        return self._enqueue(args)

    def _enqueue(self, messages: Sequence[int | str | bytes]) -> int:
        """See enqueue.lua: for each message the number of its queue, its id, the message."""
        names: list[str] = []
        for queue in keys.QUEUES_BY_URGENCY:
            names += [
                keys.waiting(self.namespace, queue),
                keys.messages(self.namespace, queue),
                keys.wake(self.namespace, queue),
            ]
        return int(self._enqueue_script(keys=names, args=[MAX_WAKE_TOKENS, *messages]))

    # -- out --------------------------------------------------------------

    def fetch(self, queues: Iterable[str], wanted: int, streak: int) -> tuple[int, list[TaskMessage]]:
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
        args.append(keys.cancel_flag(self.namespace, ""))
        streak, *found = self._fetch_script(keys=names, args=args)
        pairs = zip(found[::2], found[1::2], strict=True)
        return int(streak), [TaskMessage(Message.decode(data), cancelled=bool(flag)) for data, flag in pairs]

    def acknowledge(self, done: Sequence[Done]) -> None:
        """Forgets messages, and tells which tasks have ended. Raises redis.RedisError."""
        with self.client.pipeline(transaction=False) as pipeline:
            for queue in keys.QUEUES_BY_URGENCY:
                ids = [item.message_id for item in done if item.queue == queue]
                if ids:
                    fetched = keys.fetched(self.namespace, self.broker_id, queue)
                    names = [fetched, keys.messages(self.namespace, queue)]
                    # Not by its hash: a pipeline would ask first, each time, whether that is known.
                    pipeline.eval(self._acknowledge_script, len(names), *names, *ids)
            ended = [item.ended_task for item in done if item.ended_task]
            if ended:
                notify_ended(pipeline, self.namespace, ended)
            pipeline.execute()

    def acknowledge_later(self, message: TaskMessage, *, over: bool = False) -> None:
        """Has Redis told that the message is done with; `over`: so is its task."""
        task_id = str(message.args[0]) if over else ""
        self.acknowledger.add(Done(message.queue_name, message.redis_id, task_id))

    def put_back(self, messages: Sequence[TaskMessage]) -> None:
        """Others may take what was fetched and not started. Raises redis.RedisError."""
        for queue in keys.QUEUES_BY_URGENCY:
            ids = [message.redis_id for message in messages if message.queue_name == queue]
            if ids:
                names = [
                    keys.fetched(self.namespace, self.broker_id, queue),
                    keys.messages(self.namespace, queue),
                    keys.waiting(self.namespace, queue),
                    keys.wake(self.namespace, queue),
                ]
                self._give_back_script(keys=names, args=ids)

    def wait_for_message(self, queues: Iterable[str], seconds: float) -> None:
        """Returns when a message was queued, or after `seconds`."""
        names = [keys.wake(self.namespace, queue) for queue in queues]
        self.client.blpop([*names, keys.own_wake(self.namespace, self.broker_id)], timeout=seconds)

    def recover(self) -> None:
        """Puts back what silent consumers had fetched. Harmless to repeat. Raises redis.RedisError."""
        long_ago = current_millis() - self.heartbeat_timeout
        if not self.client.zcount(keys.heartbeats(self.namespace), 0, long_ago):
            return
        # Dramatiq's own maintenance, made certain for this one harmless command.
        self.maintenance_chance = MAINTENANCE_SCALE
        try:
            for queue in keys.QUEUES_BY_URGENCY:
                self.do_qsize(queue)
        finally:
            self.maintenance_chance = 0

    def give_back(self) -> None:
        """Leaves to others what was fetched and not begun with; `recover` does it if Redis is gone."""
        with suppress(redis.RedisError):
            self.dispenser.leave()

    def wake(self) -> None:
        """Ends the waiting of this process's own consumers. Without Redis they do not wait."""
        name = keys.own_wake(self.namespace, self.broker_id)
        with suppress(redis.RedisError), self.client.pipeline(transaction=False) as pipeline:
            pipeline.rpush(name, "1")
            pipeline.expire(name, _TOKEN_SECONDS)
            pipeline.execute()

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


#: What stands in a template: none of these is in what stands beside it.
_TASK, _ATTEMPT, _MOMENT = "the-task", "987654321", "1234567890"


@functools.cache
def _template(priority: int) -> str:
    """A message as Dramatiq encodes it, to be filled in: its encoder takes ten times as long."""
    message = task_message(_TASK, int(_ATTEMPT), priority)
    return dataclasses.replace(message, message_timestamp=int(_MOMENT)).encode().decode()
