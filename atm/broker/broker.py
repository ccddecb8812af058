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
from atm.broker.message import FetchedMessage, decoded, encoded, list_of
from atm.broker.notifications import notify_ended
from atm.broker.scripts import Scripts
from atm.lists import Hint, TaskList
from atm.models import now

logger = logging.getLogger(__name__)

#: Enough to wake every consumer of a large installation; more would only be
#: empty fetches later.
MAX_WAKE_TOKENS = 64
#: A flood of High tasks leaves Normal ones one start in nine: 8 High, 1 Normal.
HIGH_PER_NORMAL = 8
#: How many messages a list holds at most: some 400 bytes each. SQL has the rest.
MOST_QUEUED = 50_000
#: For how long a consumer may ask for an answer again that did not arrive.
_GIVEN_SECONDS = 24 * 3600
#: A token that nobody took is of no use for longer.
_TOKEN_SECONDS = 60


class Acknowledgement(NamedTuple):
    """A message that is done with, by its id, and the task that ended by it, if one did."""

    message_id: str
    ended_task: str = ""


class TaskBroker(RedisBroker):
    """Dramatiq's Redis broker, with four differences.

    A message's id is given by its attempt, so a second copy is noticed. There
    is a list for each type and priority; a fetch takes from several at once,
    High first, the oldest first. Who finds nothing blocks on Redis instead of
    sleeping. Messages are acknowledged by the batch, after what they did was
    committed.

    Methods raise BrokerUnavailableError when Redis is out of reach or
    refuses. `consumer_timeout` is the number of seconds after which the
    messages that a silent consumer had fetched go back to their queue (see
    `recover`). `now` tells when a message is sent, `limit` is how many a list
    holds at most.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        middleware: list[Middleware] | None = None,
        consumer_timeout: float = 8.0,
        now: Callable[[], datetime] = now,
        limit: int = MOST_QUEUED,
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            client=connect(url, prefix),
            middleware=middleware or [],
            namespace=prefix,
            # Recovery is asked for by the scheduler, and goes by the time of Redis.
            maintenance_chance=0,
            heartbeat_timeout=round(consumer_timeout * 1000),
        )
        self._scripts = Scripts(self.client)
        self._now = now
        self._refusals = Refusals()
        self._limit = limit
        self._consumers = [keys.consumers(prefix)]
        #: acknowledge.lua: fetched, messages.
        self._held = [keys.fetched(prefix), keys.messages(prefix)]
        # Counts the fetches whose answers have arrived.
        self._fetch_number = 0
        self._fetch_keys: dict[tuple[TaskList, ...], keys.FetchKeys] = {}
        self._leaving = threading.Event()
        self._breaker = CircuitBreaker("messages that are done with are acknowledged later")
        # What is not acknowledged before `close` is delivered again later, and refused: SQL has what it did.
        self._acknowledgements: Batcher[Acknowledgement] = Batcher(
            partial(self._breaker.insist, self._leaving, self.acknowledge), name="atm-acknowledge"
        )

    # -- in ---------------------------------------------------------------

    @translated
    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Queues one message, as `send` does. Raises ValueError for a delay: what waits, waits in SQL."""
        if delay is not None:
            raise ValueError("delayed messages are not supported: set due_at of the task")
        self.emit_before("enqueue", message, delay)
        self._enqueue([(list_of(message), message.message_id, message.encode())], relayed=False)
        self.emit_after("enqueue", message, delay)
        return message

    @translated
    def send(self, hints: Sequence[Hint], *, relayed: bool = False) -> list[int]:
        """Queues a message for each of these, unless it is there, in one round trip.

        Returns the places of those that there was no room for. A list that was
        full takes only what is `relayed`, until it has `caught_up`.
        """
        if not hints:
            return []
        at = str(round(self._now().timestamp() * 1000))
        return self._enqueue(
            [
                (of, keys.message_id(task_id, attempt), encoded(task_id, attempt, of, at))
                for task_id, attempt, of in hints
            ],
            relayed=relayed,
        )

    def _enqueue(self, items: Sequence[tuple[TaskList, str, str | bytes]], *, relayed: bool) -> list[int]:
        prefix = self.namespace
        numbers: dict[TaskList, int] = {}
        args: list[int | str | bytes] = [MAX_WAKE_TOKENS, self._limit, int(relayed)]
        for of, name, text in items:
            args += [numbers.setdefault(of, len(numbers)), name, text]
        names = [self._held[1], keys.full(prefix)]
        for of in numbers:
            names += [keys.waiting(prefix, of), keys.wake(prefix, of)]
        _, *refused = self._scripts.run("enqueue", names, args)
        return list(map(int, refused))

    @translated
    def room(self, lists: Sequence[TaskList]) -> dict[TaskList, int]:
        """Of these lists those that were full and have not caught up, with how many more they hold by now."""
        names = {keys.waiting(self.namespace, of): of for of in lists}
        members: Any = self.client.smembers(keys.full(self.namespace))
        # Whatever else is there.
        full = [name for name in (str(member, "utf-8", "replace") for member in members) if name in names]
        with self.client.pipeline(transaction=False) as pipeline:
            for name in full:
                pipeline.llen(name)
            lengths = pipeline.execute()
        return {names[name]: self._limit - n for name, n in zip(full, lengths, strict=True)}

    @translated
    def caught_up(self, lists: Sequence[TaskList]) -> None:
        """Nothing that is due is missing in these lists: whatever comes is queued again."""
        if lists:
            names = [keys.waiting(self.namespace, of) for of in lists]
            self.client.srem(keys.full(self.namespace), *names)

    # -- out --------------------------------------------------------------

    @translated
    def fetch(self, lists: Sequence[TaskList], wanted: int, streak: int) -> tuple[int, list[FetchedMessage]]:
        """Takes up to `wanted` messages from these lists; see fetch.lua. Also a sign of life.

        What a fetch gave out whose answer did not arrive comes with the next
        one: by one thread at a time, but for those that want none.
        """
        names = self._keys_of(lists)
        args: list[int | str] = [self.broker_id, wanted, streak, HIGH_PER_NORMAL, *names.counts]
        args += [self._fetch_number, _GIVEN_SECONDS]
        streak, *found = self._scripts.run("fetch", names.fetch, args)
        messages, garbage = [], []
        for redis_id, data, flag in zip(found[::3], found[1::3], found[2::3], strict=True):
            message = decoded(redis_id, data)
            if message is not None:
                messages.append(FetchedMessage(message, bool(flag)))
            else:
                garbage.append(redis_id)
        for redis_id in garbage:
            self._drop(self.broker_id, redis_id)
        if wanted:
            self._fetch_number += 1
        return int(streak), messages

    def _keys_of(self, lists: Sequence[TaskList]) -> keys.FetchKeys:
        known = self._fetch_keys.get(key := tuple(lists))
        if known is None:
            known = self._fetch_keys[key] = keys.FetchKeys(self.namespace, self.broker_id, lists)
        return known

    def _drop(self, consumer: str, redis_id: bytes) -> None:
        logger.warning("what was queued as %r asks for no attempt of a task: it is dropped", redis_id[:80])
        self._scripts.run("acknowledge", self._held, [consumer, redis_id])

    @translated
    def wait(self, lists: Sequence[TaskList], seconds: float) -> None:
        """Returns when a message was queued, `wake` was called, or after `seconds`."""
        self.client.blpop(self._keys_of(lists).wait, timeout=seconds)

    @translated
    def acknowledge(self, done: Sequence[Acknowledgement]) -> None:
        """Forgets messages, and notifies of the tasks that have ended."""
        script = self._scripts.text("acknowledge")
        with self.client.pipeline(transaction=False) as pipeline:
            ids = [item.message_id for item in done]
            # Not by its hash: a pipeline would ask first, each time, whether that is known.
            pipeline.eval(script, len(self._held), *self._held, self.broker_id, *ids)
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
        self._acknowledgements.add([Acknowledgement(fetched.redis_id, task_id)])

    @translated
    def requeue(self, messages: Sequence[FetchedMessage], *, last: bool = False) -> None:
        """Puts messages back where they were, at the head of their lists, for any worker to fetch.

        `last`: at the end, after those that wait.
        """
        self._requeue(self.broker_id, [item.message for item in messages], last=last)

    def _requeue(self, consumer: str, messages: Iterable[Message[Any]], *, last: bool) -> None:
        by_list: dict[TaskList, list[str]] = {}
        for message in messages:
            by_list.setdefault(list_of(message), []).append(message.options["redis_message_id"])
        for of, ids in by_list.items():
            names = [*self._held, keys.waiting(self.namespace, of), keys.wake(self.namespace, of)]
            end = "rpush" if last else "lpush"
            self._scripts.run("requeue", names, [consumer, end, MAX_WAKE_TOKENS, *ids])

    @translated
    def recover(self) -> None:
        """Puts back what silent consumers had fetched, and forgets them. Harmless to repeat."""
        names = [*self._consumers, *self._held]
        count, *found = self._scripts.run("silent", names, [self.heartbeat_timeout])
        silent, found = found[:count], found[count:]
        fetched: dict[str, list[Message[Any]]] = {}
        # The oldest first, in each list.
        for redis_id, consumer, data in sorted(zip(found[1::3], found[::3], found[2::3], strict=True)):
            message = decoded(redis_id, data)
            if message is not None:
                fetched.setdefault(consumer.decode(), []).append(message)
            else:
                self._drop(consumer, redis_id)
        for name, messages in fetched.items():
            self._requeue(name, messages, last=False)
        if silent:
            self._scripts.run("forget", self._consumers, [self.heartbeat_timeout, *silent])

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
