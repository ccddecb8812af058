"""How a worker process takes messages: as many as it can start at once, and a glance ahead.

Dramatiq runs a consumer thread per queue and prefetches for each. Here one of
them takes for all from the process's `Dispenser`, which looks ahead by time,
not by number: as many messages as its threads will have started within
AHEAD_SECONDS, going by how long the last ones took and the running ones have
taken. Tasks of a millisecond are fetched by the dozen, tasks of a second one
by one. So nothing waits here for long while a thread elsewhere is free, and a
High task that arrives is soon next.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import redis
from dramatiq.broker import MessageProxy
from dramatiq.message import Message

#: The longest that a consumer blocks: shorter than connection.ANSWER_SECONDS.
#: It bounds how often an idle process speaks; one that stops is woken.
BLOCK_SECONDS = 3.0
#: How much work a process may hold beyond what its threads do, in seconds.
AHEAD_SECONDS = 0.04
#: ... and in messages. Some of them for each thread are handed out already, so
#: that a thread that is free need not wait for another one to bring the next.
MOST_AHEAD = 128
HANDED_AHEAD = 4
#: What waits here for this long, because the tasks before it turned out to be
#: long ones, is left to others.
STALE_SECONDS = 0.25
#: The weight of a task that was shorter than those before, in how long they take.
_SHORTER = 0.03
#: A process that is busy says so at least this often.
_SPEAK_SECONDS = 1.0


class Settled(Protocol):
    """What becomes of an attempt's end; a future will do."""

    def result(self) -> Any: ...
    def exception(self) -> BaseException | None: ...
    def add_done_callback(self, callback: Callable[[Any], None], /) -> None: ...


class TaskMessage(MessageProxy):
    """A message that was fetched. `cancelled`: the flag of its task was up then."""

    def __init__(self, message: Message[Any], *, cancelled: bool) -> None:
        super().__init__(message)
        self.cancelled = cancelled
        self.redis_id = str(message.options["redis_message_id"])
        # When it was fetched, and when a thread began with it; 0: not yet.
        self.fetched_at = 0.0
        self.begun_at = 0.0
        # It was left to others before a thread got to it.
        self.revoked = False
        # The worker's claim of what the message asks for, if it asked ahead of its threads.
        self.claim: Any = None
        # Done when what the message caused is committed; None: it caused nothing.
        self.settled: Settled | None = None

    @property
    def attempt(self) -> tuple[str, int]:
        """The task, and which attempt of it is asked for."""
        task_id, number = self.args
        return task_id, number


Fetch = Callable[[Iterable[str], int, int], tuple[int, list[TaskMessage]]]
Wait = Callable[[Iterable[str], float], None]
PutBack = Callable[[Sequence[TaskMessage]], None]
Claim = Callable[[Sequence[TaskMessage]], None]
#: Which of these messages were left to others.
HandBack = Callable[[Sequence[TaskMessage], str], Sequence[TaskMessage]]


class Dispenser:
    """Hands out messages to the threads of one process.

    The worker sets these when it boots: `capacity`, how many threads there
    are; `claim`, which is given what was fetched; and `hand_back`, which
    leaves to others what was claimed, with the reason.
    """

    def __init__(self, fetch: Fetch, wait: Wait, put_back: PutBack) -> None:
        self._fetch = fetch
        self._wait = wait
        self._put_back = put_back
        self.capacity = 1
        self.claim: Claim = lambda messages: None
        self.hand_back: HandBack = lambda messages, why: []
        self._queues: list[str] = []
        self._out: dict[int, TaskMessage] = {}
        self._ready: deque[TaskMessage] = deque()
        self._took = 1.0
        self._ahead = 0
        self._looked_at = 0.0
        self._streak = 0
        self._stopping = False
        self._changed = threading.Condition()
        # The consumer that takes, and whoever leaves things to others.
        self._turn = threading.Lock()

    def add_queue(self, queue: str) -> bool:
        """From now on messages of this queue are taken too; True for the first one, each time it is added."""
        if queue not in self._queues:
            self._queues.append(queue)
        return self._queues[0] == queue

    def stop(self) -> None:
        """Nothing is fetched from now on; what was is still handed out."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def take(self) -> TaskMessage | None:
        """The next message, or None when there was none for a while. Raises redis.RedisError."""
        if not self._turn.acquire(timeout=BLOCK_SECONDS):
            return None
        try:
            if self._stopping and not self._ready:
                # A consumer thread asks again until it is told to end.
                time.sleep(0.01)
                return None
            if time.monotonic() - self._looked_at >= STALE_SECONDS:
                self._look()
            if not self._there_is_room():
                self._speak()
                return None
            if len(self._ready) <= self._ahead // 2 and not self._stopping:
                self._refill_if_possible()
            if self._ready and self._handed_ahead and not self._is_claimed(self._ready[0]):
                self._speak()
                return None
            return self._hand_out() if self._ready else None
        finally:
            self._turn.release()

    def begin(self, message: TaskMessage) -> None:
        """A thread begins with it."""
        message.begun_at = time.monotonic()

    def release(self, message: TaskMessage) -> None:
        """The message is done with: its thread is free."""
        with self._changed:
            del self._out[id(message)]
            if message.begun_at and not message.revoked:
                took = time.monotonic() - message.begun_at
                # Up at once, down slowly: among tasks of which some are long, nothing is taken ahead.
                self._took = max(took, self._took + _SHORTER * (took - self._took))
            # The consumer is woken for several at a time, where several are handed out ahead.
            if len(self._out) <= self._room - self._handed_ahead // 2 - 1:
                self._changed.notify()

    def leave(self) -> None:
        """Leaves to others what no thread has begun with: the process stops. Raises redis.RedisError."""
        with self._turn:
            self._leave(self._waiting(), "its worker stopped before it began")

    def _waiting(self, since: float | None = None) -> list[TaskMessage]:
        """What no thread has begun with, of all or of what was fetched before this moment."""
        with self._changed:
            found = [message for message in self._out.values() if not message.begun_at]
        found += self._ready
        return [
            message
            for message in found
            if not message.revoked and (since is None or message.fetched_at <= since)
        ]

    def _leave(self, messages: Sequence[TaskMessage], why: str) -> None:
        if not messages:
            return
        given = self.hand_back(messages, why)
        unclaimed = [message for message in messages if message.claim is None]
        if unclaimed:
            # Forgotten only when Redis has it: it answers, or this is tried again.
            # One that a thread begins with just now is started once all the
            # same: SQL sees to that.
            self._put_back(unclaimed)
            for message in unclaimed:
                message.revoked = True
        if given or unclaimed:
            self._ready = deque(message for message in self._ready if not message.revoked)

    @property
    def _handed_ahead(self) -> int:
        return min(HANDED_AHEAD * self.capacity, self._ahead)

    @property
    def _room(self) -> int:
        """How many messages may be out."""
        return self.capacity + self._handed_ahead

    def _is_claimed(self, message: TaskMessage) -> bool:
        """Waits for it, where there is more to do: one is woken, not each thread for its own message."""
        return message.claim is None or bool(message.claim.wait(STALE_SECONDS))

    def _estimate(self) -> None:
        """How many messages the threads will have started within AHEAD_SECONDS.

        Each is counted for whole tasks, and as slow as its own one has turned
        out: tasks that are longer than that keep their worker from fetching more.
        """
        now = time.monotonic()
        with self._changed:
            busy = [now - message.begun_at for message in self._out.values() if message.begun_at]
        took = max(self._took, 1e-6)
        free = max(0, self.capacity - len(busy))
        starts = free * int(AHEAD_SECONDS / took) + sum(int(AHEAD_SECONDS / max(took, t)) for t in busy)
        self._ahead = min(MOST_AHEAD, starts)

    def _there_is_room(self) -> bool:
        """Waits for it, but not for ever: see `_speak`."""
        patience = STALE_SECONDS if self._ready or self._handed_ahead else _SPEAK_SECONDS
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or len(self._out) < self._room, patience)
            return len(self._out) < self._room

    def _look(self) -> None:
        """Leaves to others what has waited for long behind tasks that turned out to be long ones."""
        self._looked_at = time.monotonic()
        self._estimate()
        self._leave(self._waiting(self._looked_at - STALE_SECONDS), "the threads of its worker were busy")

    def _speak(self) -> None:
        """No thread is free: tells Redis that the process lives, and lets others have what waits here."""
        self._look()
        self._fetch(self._queues, 0, self._streak)

    def _refill(self) -> None:
        self._estimate()
        free = max(0, self.capacity - len(self._out))
        wanted = free + self._ahead - len(self._ready)
        if wanted <= 0 and self._ready:
            return
        self._streak, found = self._fetch(self._queues, max(1, wanted), self._streak)
        if found:
            at = time.monotonic()
            for message in found:
                message.fetched_at = at
            self.claim(found)
            self._ready.extend(found)
        elif not self._ready:
            self._wait(self._queues, STALE_SECONDS if self._waiting() else BLOCK_SECONDS)

    def _refill_if_possible(self) -> None:
        try:
            self._refill()
        except redis.RedisError:
            # What is here needs no Redis.
            if not self._ready:
                raise

    def _hand_out(self) -> TaskMessage:
        message = self._ready.popleft()
        with self._changed:
            self._out[id(message)] = message
        return message
