"""The Dramatiq broker of ATM: messages in; fetched, acknowledged and requeued out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from dramatiq import Message, Middleware
from dramatiq.brokers.redis import RedisBroker

from atm.batching.batcher import Batcher
from atm.broker import keys
from atm.broker.connection import CircuitBreaker, Refusals, connect, raise_first, translated
from atm.broker.message import FetchedMessage, decoded, encoded
from atm.broker.notifications import notify_ended
from atm.broker.scripts import Scripts
from atm.models import now

logger = logging.getLogger(__name__)

#: Enough to wake every consumer of a large installation; more would only be
#: empty fetches later.
MAX_WAKE_TOKENS = 64
#: A flood of High tasks leaves Normal ones one start in nine: 8 High, 1 Normal.
HIGH_PER_NORMAL = 8
#: A token that nobody took is of no use for longer.
_TOKEN_SECONDS = 60


class Acknowledgement(NamedTuple):
    """A message that is done with, by its queue and id, and the task that ended by it, if one did."""

    queue: str
    message_id: str
    ended_task: str = ""


class TaskBroker(RedisBroker):
    """Dramatiq's Redis broker, with four differences.

    A message's id is given by its attempt, so a second copy is noticed. A
    fetch takes from all queues at once, the High queue first. Who finds
    nothing blocks on Redis instead of sleeping. Messages are acknowledged by
    the batch, after what they did was committed.

    Methods raise BrokerUnavailableError when Redis is out of reach or
    refuses. `consumer_timeout` is the number of seconds after which the
    messages that a silent consumer had fetched go back to their queue (see
    `recover`). `now` tells when a message is sent.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        middleware: list[Middleware] | None = None,
        consumer_timeout: float = 8.0,
        now: Callable[[], datetime] = now,
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            client=connect(url),
            middleware=middleware or [],
            namespace=prefix,
            # Recovery is asked for by the scheduler, and goes by the time of Redis.
            maintenance_chance=0,
            heartbeat_timeout=round(consumer_timeout * 1000),
        )
        self._scripts = Scripts(self.client)
        self._now = now
        self._refusals = Refusals()
        self._keys = keys.QueueKeys(prefix, self.broker_id)
        self._numbers = {n: keys.QUEUES_BY_URGENCY.index(keys.queue_of(n)) for n in (0, 1)}
        self._leaving = threading.Event()
        self._breaker = CircuitBreaker("messages that are done with are acknowledged later")
        # What is not acknowledged before `close` is delivered again later, and refused: SQL has what it did.
        self._acknowledgements: Batcher[Acknowledgement] = Batcher(
            partial(self._breaker.insist, self._leaving, self.acknowledge), name="atm-acknowledge"
        )

    # -- in ---------------------------------------------------------------

    @translated
    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Queues one message. Raises ValueError for a delay: what waits, waits in SQL."""
        if delay is not None:
            raise ValueError("delayed messages are not supported: set due_at of the task")
        message = message.copy(options={"redis_message_id": message.message_id})
        self.emit_before("enqueue", message, delay)
        number = keys.QUEUES_BY_URGENCY.index(message.queue_name)
        self._scripts.run(
            "enqueue", self._keys.enqueue, [MAX_WAKE_TOKENS, number, message.message_id, message.encode()]
        )
        self.emit_after("enqueue", message, delay)
        return message

    @translated
    def send(self, tasks: Sequence[tuple[str, int, int]]) -> int:
        """Queues a message for each (task id, attempt, priority), in one round trip.

        Returns how many were not queued already.
        """
        if not tasks:
            return 0
        at = str(round(self._now().timestamp() * 1000))
        args: list[int | str | bytes] = [MAX_WAKE_TOKENS]
        for task_id, attempt, priority in tasks:
            text = encoded(task_id, attempt, priority, at)
            args += [self._numbers[priority > 0], keys.message_id(task_id, attempt), text]
        return int(self._scripts.run("enqueue", self._keys.enqueue, args))

    # -- out --------------------------------------------------------------

    @translated
    def fetch(self, queues: Iterable[str], wanted: int, streak: int) -> tuple[int, list[FetchedMessage]]:
        """Takes up to `wanted` messages from these queues; see fetch.lua. Also a sign of life."""
        args: list[int | str] = [
            self.broker_id,
            wanted,
            streak,
            HIGH_PER_NORMAL,
            self._keys.cancel_flags,
        ]
        streak, *found = self._scripts.run("fetch", self._keys.fetch(queues), args)
        messages = []
        for redis_id, data, flag in zip(found[::3], found[1::3], found[2::3], strict=True):
            message = decoded(redis_id, data)
            if message is not None:
                messages.append(FetchedMessage(message, bool(flag)))
            else:
                self._drop(redis_id)
        return int(streak), messages

    def _drop(self, redis_id: bytes) -> None:
        logger.warning("what was queued as %r asks for no attempt of a task: it is dropped", redis_id[:80])
        for names in self._keys.acknowledge.values():
            self._scripts.run("acknowledge", names, [redis_id])

    @translated
    def wait(self, queues: Iterable[str], seconds: float) -> None:
        """Returns when a message was queued, `wake` was called, or after `seconds`."""
        self.client.blpop(self._keys.wait(queues), timeout=seconds)

    @translated
    def acknowledge(self, done: Sequence[Acknowledgement]) -> None:
        """Forgets messages, and notifies of the tasks that have ended."""
        script = self._scripts.text("acknowledge")
        with self.client.pipeline(transaction=False) as pipeline:
            for queue in keys.QUEUES_BY_URGENCY:
                ids = [item.message_id for item in done if item.queue == queue]
                if ids:
                    names = self._keys.acknowledge[queue]
                    # Not by its hash: a pipeline would ask first, each time, whether that is known.
                    pipeline.eval(script, len(names), *names, *ids)
            ended = [item.ended_task for item in done if item.ended_task]
            if ended:
                notify_ended(pipeline, self.namespace, ended)
            # Who may not publish can acknowledge all the same.
            *answers, last = pipeline.execute(raise_on_error=False)
        if not ended or not self._refusals.note("notifications of tasks that ended", last):
            answers.append(last)
        raise_first(answers)

    def acknowledge_later(self, fetched: FetchedMessage, *, ended: bool = False) -> None:
        """Has Redis told soon that the message is done with; `ended`: so is its task."""
        task_id = str(fetched.message.args[0]) if ended else ""
        self._acknowledgements.add([Acknowledgement(fetched.message.queue_name, fetched.redis_id, task_id)])

    @translated
    def requeue(self, messages: Sequence[FetchedMessage], *, last: bool = False) -> None:
        """Puts messages back where they were, at the head of their queues, for any worker to fetch.

        `last`: at the end, after those that wait.
        """
        for queue in keys.QUEUES_BY_URGENCY:
            ids = [fetched.redis_id for fetched in messages if fetched.message.queue_name == queue]
            if ids:
                self._scripts.run("requeue", self._keys.requeue[queue], ["rpush" if last else "lpush", *ids])

    @translated
    def recover(self) -> None:
        """Puts back what silent consumers had fetched. Harmless to repeat."""
        args = [self.heartbeat_timeout, MAX_WAKE_TOKENS, *self._keys.fetched_by]
        self._scripts.run("recover", self._keys.recover, args)

    @translated
    def wake(self) -> None:
        """Ends the waiting of this process."""
        name = keys.own_wake(self.namespace, self.broker_id)
        with self.client.pipeline(transaction=False) as pipeline:
            pipeline.rpush(name, "1")
            pipeline.expire(name, _TOKEN_SECONDS)
            pipeline.execute()

    @translated
    def ping(self) -> bool:
        """Whether Redis answers."""
        return bool(self.client.ping())

    @translated
    def probe(self) -> None:
        """Returns if Redis can be written to: it may be a replica, be full, or refuse this user."""
        self.client.set(keys.probe(self.namespace), "1", ex=_TOKEN_SECONDS)

    def start(self) -> None:
        """Starts the thread that acknowledges."""
        self._acknowledgements.start()

    def close(self) -> None:
        """Acknowledges what is left, if Redis can be reached, and closes the connections."""
        self._leaving.set()
        self._acknowledgements.close()
        self.client.close()
