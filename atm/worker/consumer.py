"""What Dramatiq's threads take attempts from, and where they say that they are free."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dramatiq import Middleware
from dramatiq.broker import Consumer, MessageProxy

from atm.broker.broker import TaskBroker
from atm.worker.attempt import Attempt
from atm.worker.completer import Completer
from atm.worker.prefetcher import Prefetcher

if TYPE_CHECKING:
    from atm.worker.runtime import WorkerRuntime

#: How often a consumer that takes nothing looks whether it shall end, before the worker stops.
_IDLE_SECONDS = 1.0


class AttemptMessage(MessageProxy):
    """A message in Dramatiq's hands: its actor gets the attempt in the place of the hint."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt.message)
        self.attempt = attempt
        self.args = (attempt,)


class AttemptConsumer(Consumer):
    """The consumer of one queue. All of a process share its prefetcher, and one takes for all.

    Dramatiq never sees that Redis is away: it would sleep three seconds
    (fetching) or hold a thread (acknowledging).
    """

    def __init__(self, queue_name: str, prefetcher: Prefetcher, completer: Completer) -> None:
        self._prefetcher = prefetcher
        self._completer = completer
        # Two that take would only wake each other. Nor is there anything in the
        # queues for delays that Dramatiq adds: ATM's wait in SQL.
        self._takes = not queue_name.endswith(".DQ") and prefetcher.add_queue(queue_name)

    def __next__(self) -> MessageProxy | None:
        if not self._takes:
            self._prefetcher.wait_for_stop(_IDLE_SECONDS)
            return None
        attempt = self._prefetcher.take()
        return None if attempt is None else AttemptMessage(attempt)

    def ack(self, message: MessageProxy) -> None:
        """The thread is free at once. Redis is told when the attempt's end is committed."""
        assert isinstance(message, AttemptMessage), "it came from this consumer"
        self._prefetcher.thread_is_free(message.attempt)
        self._completer.thread_left(message.attempt)

    # The state of a task is in SQL: a dead-letter queue would be a second opinion.
    nack = ack

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Dramatiq stops and has not started these: they are handed back with all that has not begun."""

    def close(self) -> None:
        """Nothing of its own to close."""


class WorkerBroker(TaskBroker):
    """The broker of a worker process, which gives Dramatiq consumers of attempts."""

    def __init__(
        self,
        url: str,
        runtime: WorkerRuntime,
        *,
        prefix: str,
        middleware: list[Middleware],
        consumer_timeout: float,
    ) -> None:
        super().__init__(url, prefix=prefix, middleware=middleware, consumer_timeout=consumer_timeout)
        self._runtime = runtime

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Any:
        """The consumer of one queue."""
        return AttemptConsumer(queue_name, self._runtime.prefetcher, self._runtime.completer)
