"""How a worker process takes messages: as many as it can start at once, and a glance ahead.

Dramatiq runs a consumer thread per queue and prefetches for each. Here all
consumer threads of a process share one `Dispenser`, which looks ahead by time,
not by number: as many messages as its threads will have started within
AHEAD_SECONDS, going by how long the last ones took. Tasks of a millisecond
are fetched by the dozen, tasks of a second one by one. So nothing waits here
for long while a thread elsewhere is free, and a High task that arrives is soon
next.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

from dramatiq.broker import MessageProxy
from dramatiq.message import Message

#: The longest that a consumer blocks: shorter than connection.ANSWER_SECONDS.
#: It bounds how often an idle process speaks; one that stops is woken.
BLOCK_SECONDS = 3.0
#: How much work a process may hold beyond what its threads do, in seconds.
AHEAD_SECONDS = 0.02
#: ... and in messages. Up to one for each thread of them are handed out already,
#: so that a thread that is free need not wait for another one to bring the next.
MOST_AHEAD = 64
#: What waits here for this long, because the tasks before it turned out to be
#: long ones, is put back for others.
STALE_SECONDS = 0.1
#: The weight of the newest task in the average of how long they take.
_NEWEST = 0.1
#: A process that is busy says so at least this often.
_SPEAK_SECONDS = 1.0


class TaskMessage(MessageProxy):
    """A message that was fetched. `cancelled`: the flag of its task was up then."""

    def __init__(self, message: Message[Any], *, cancelled: bool) -> None:
        super().__init__(message)
        self.cancelled = cancelled
        self.redis_id = str(message.options["redis_message_id"])
        # When it was handed to Dramatiq, and when a thread began with it; 0: not yet.
        self.handed_out_at = 0.0
        self.begun_at = 0.0
        # It was put back for others before a thread got to it.
        self.revoked = False
        # What SQL said of the task soon after the message was fetched, if it was asked.
        self.known: Any = None
        # Done when what the message caused is committed; None: it caused nothing.
        self.settled: Future[Any] | None = None


Fetch = Callable[[Iterable[str], int, int], tuple[int, list[TaskMessage]]]
Wait = Callable[[Iterable[str], float], None]
PutBack = Callable[[Sequence[TaskMessage]], None]


class Dispenser:
    """Hands out messages to the threads of one process.

    `capacity` is how many threads there are, and `look_up`, if set, is given
    several messages that were fetched together; the worker sets both when it
    boots.
    """

    def __init__(self, fetch: Fetch, wait: Wait, put_back: PutBack) -> None:
        self._fetch = fetch
        self._wait = wait
        self._put_back = put_back
        self.capacity = 1
        self.look_up: Callable[[Sequence[TaskMessage]], None] | None = None
        self._queues: set[str] = set()
        self._out: dict[int, TaskMessage] = {}
        self._ready: deque[TaskMessage] = deque()
        self._fetched_at = 0.0
        self._took = 1.0
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

    def take(self) -> TaskMessage | None:
        """The next message, or None when there was none for a while. Raises redis.RedisError."""
        if self._stopping or not self._turn.acquire(timeout=BLOCK_SECONDS):
            # Stopping: a consumer thread asks again until it is told to end.
            time.sleep(0.01)
            return None
        try:
            if not self._there_is_room():
                self._speak()
                return None
            if not self._ready and not self._refill():
                return None
            return self._hand_out()
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
                self._took += _NEWEST * (took - self._took)
            # The consumer is woken for several at a time, where several are handed out ahead.
            if len(self._out) <= self._room - self._handed_ahead // 2 - 1:
                self._changed.notify()

    def leftovers(self) -> list[TaskMessage]:
        """Messages that were fetched and not handed out; they are forgotten here."""
        found = list(self._ready)
        self._ready.clear()
        return found

    @property
    def _ahead(self) -> int:
        """How many messages the threads will have started within AHEAD_SECONDS."""
        return min(MOST_AHEAD, int(self.capacity * AHEAD_SECONDS / max(self._took, 1e-6)))

    @property
    def _handed_ahead(self) -> int:
        return min(self.capacity, self._ahead)

    @property
    def _room(self) -> int:
        """How many messages may be out."""
        return self.capacity + self._handed_ahead

    def _there_is_room(self) -> bool:
        """Waits for it, but not for ever: see `_speak`."""
        patience = STALE_SECONDS if self._ready or self._handed_ahead else _SPEAK_SECONDS
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or len(self._out) < self._room, patience)
            return not self._stopping and len(self._out) < self._room

    def _speak(self) -> None:
        """No thread is free: tells Redis that the process lives, and lets others have what waits here."""
        if self._stopping:
            return
        long_ago = time.monotonic() - STALE_SECONDS
        with self._changed:
            stuck = [m for m in self._out.values() if not m.begun_at and m.handed_out_at <= long_ago]
        if self._ready and self._fetched_at <= long_ago:
            stuck += self._ready
        if stuck:
            # Forgotten only when Redis has it: it answers, or this is tried again.
            # One that a thread begins with just now is started once all the
            # same: SQL sees to that.
            self._put_back(stuck)
            for message in stuck:
                message.revoked = True
            self._ready = deque(message for message in self._ready if not message.revoked)
        self._fetch(self._queues, 0, self._streak)

    def _refill(self) -> bool:
        free = max(0, self.capacity - len(self._out))
        self._streak, found = self._fetch(self._queues, max(1, free + self._ahead), self._streak)
        if not found:
            self._wait(self._queues, BLOCK_SECONDS)
            return False
        self._fetched_at = time.monotonic()
        if self.look_up is not None and len(found) > 1:
            self.look_up(found)
        self._ready.extend(found)
        return True

    def _hand_out(self) -> TaskMessage:
        message = self._ready.popleft()
        message.handed_out_at = time.monotonic()
        with self._changed:
            self._out[id(message)] = message
        return message
