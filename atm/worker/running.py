"""The attempts that run in this process now."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from atm.batching.reply import Reply
from atm.service.attempts import Answer, ClaimedTask
from atm.worker.context import Context
from atm.worker.handlers import HandlerSpec
from atm.worker.interruption import Interruption, Kind
from atm.worker.journal import Journal


class Handle(Protocol):
    """How an executor stops a handler that was told to stop."""

    def press(self, interruption: Interruption, elapsed: float) -> None:
        """Called again and again, `elapsed` seconds after the interruption. Must not block."""


class RunningAttempt:
    """One claimed attempt: what it is, what it says, and whether it shall stop."""

    def __init__(self, task: ClaimedTask, spec: HandlerSpec, journal: Journal | None = None) -> None:
        self.task = task
        self.spec = spec
        self.journal = journal or Journal()
        self.context = Context(
            task_id=task.task_id,
            task_type=task.task_type,
            attempt=task.attempt,
            retry_count=task.retry_count,
            max_retry=task.max_retry,
            priority=task.priority,
            sink=self.journal,
        )
        self.deadline = time.monotonic() + task.timeout_ms / 1000 if task.timeout_ms else None
        self.interruption: Interruption | None = None
        # Set by the executor while there is something to stop.
        self.handle: Handle | None = None
        # Set when SQL was told of an end that the handler has not reached.
        self.given_up = False

    def interrupt(self, kind: Kind, requested_by: str = "") -> None:
        """Tells the handler to stop. The first reason counts."""
        if self.interruption is None:
            self.interruption = Interruption(kind, requested_by)
            self.context.interrupt(self.interruption)

    def press(self) -> None:
        """Goes on stopping a handler that was told to stop."""
        handle, interruption = self.handle, self.interruption
        if handle is not None and interruption is not None:
            handle.press(interruption, time.monotonic() - interruption.at)


class RunningAttempts:
    """All of them, by task. Safe to use from several threads.

    One whose handler has ended is kept, as ending, until its end is in SQL.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_task: dict[str, RunningAttempt] = {}
        self._ending: dict[str, tuple[RunningAttempt, Reply[Answer]]] = {}
        #: Those that had begun and whose end could not be stored, by task and number.
        self.unstored: set[tuple[str, int]] = set()

    def add(self, attempt: RunningAttempt) -> None:
        """From now on the attempt is watched."""
        with self._lock:
            self._by_task[attempt.task.task_id] = attempt

    def end(self, attempt: RunningAttempt, settled: Reply[Answer]) -> None:
        """The handler has ended; `settled` is done when its end is in SQL."""
        with self._lock:
            self._by_task.pop(attempt.task.task_id, None)
            self._ending[attempt.task.task_id] = (attempt, settled)

    def remove(self, attempt: RunningAttempt) -> None:
        """The attempt is over, and SQL knows it."""
        with self._lock:
            if self._ending.get(attempt.task.task_id, (None,))[0] is attempt:
                del self._ending[attempt.task.task_id]

    def get(self, task_id: str) -> RunningAttempt | None:
        """The attempt of a task that runs here, if one does."""
        return self._by_task.get(task_id)

    def ending(self, task_id: str, number: int) -> Reply[Answer] | None:
        """What is done when the end of this attempt is in SQL; None when it is not on its way."""
        attempt, settled = self._ending.get(task_id, (None, None))
        return settled if attempt is not None and attempt.task.attempt == number else None

    def all(self) -> list[RunningAttempt]:
        """Those that run now."""
        with self._lock:
            return list(self._by_task.values())

    def held(self) -> set[tuple[str, int]]:
        """The task and the number of every attempt that SQL may rightly say runs here."""
        with self._lock:
            attempts = [*self._by_task.values(), *(attempt for attempt, _ in self._ending.values())]
        return {(attempt.task.task_id, attempt.task.attempt) for attempt in attempts}

    def __len__(self) -> int:
        """How many run now."""
        return len(self._by_task)
