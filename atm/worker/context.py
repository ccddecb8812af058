"""What a handler is given beside its payload."""

from __future__ import annotations

import functools
import logging
import math
from threading import Event
from typing import Protocol

from atm.service.attempts import ClaimedTask
from atm.worker.interruption import Interruption

#: The lines of every handler go here too, for the worker's own output.
_LOGGER_NAME = "atm.task"


class Sink(Protocol):
    """Where the lines and the progress of a handler go."""

    def line(self, message: str) -> None: ...
    def progress(self, fraction: float, message: str) -> None: ...


class _SinkHandler(logging.Handler):
    def __init__(self, sink: Sink) -> None:
        super().__init__(logging.INFO)
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 - as logging's own handlers do
            self.handleError(record)
            return
        plain = record.levelno <= logging.INFO
        self._sink.line(text if plain else f"{record.levelname}: {text}")


class Context:
    """The task that runs, and the ways to speak about it.

    Safe to use from several threads. A worker makes it; in a test
    `atm.testing.run_handler` does.
    """

    def __init__(self, task: ClaimedTask, sink: Sink) -> None:
        self._task = task
        self._sink = sink
        self._interruption: Interruption | None = None
        self._noticed = False

    @property
    def task_id(self) -> str:
        """The id of the task."""
        return self._task.task_id

    @property
    def task_type(self) -> str:
        """The type of the task."""
        return self._task.task_type

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self._task.attempt

    @property
    def retry_count(self) -> int:
        """How many attempts were followed by a retry that counts."""
        return self._task.retry_count

    @property
    def max_retry(self) -> int:
        """How many retries the task may have."""
        return self._task.max_retry

    @property
    def priority(self) -> int:
        """0 Normal, 1 High."""
        return self._task.priority

    @functools.cached_property
    def logger(self) -> logging.Logger:
        """Its lines go into the task's history, and into the worker's log."""
        # Not in logging's tree of names, which would keep one for each task.
        logger = logging.Logger(f"{_LOGGER_NAME}.{self.task_type}", logging.DEBUG)
        logger.parent = logging.getLogger(_LOGGER_NAME)
        logger.addHandler(_SinkHandler(self._sink))
        return logger

    @property
    def cancelled(self) -> bool:
        """Whether the handler should stop: cancelled, out of time, or its worker stops."""
        if self._interruption is not None:
            self._noticed = True
            return True
        return False

    def raise_if_cancelled(self) -> None:
        """Raises TaskCancelled or TaskTimedOut (both TaskInterrupted) if the handler should stop."""
        if self.cancelled:
            assert self._interruption is not None, "set before the event"
            raise self._interruption.exception()

    def sleep(self, seconds: float) -> None:
        """Waits, in a plain handler, and raises like `raise_if_cancelled` as soon as it should stop."""
        self._interrupted.wait(seconds)
        self.raise_if_cancelled()

    def progress(self, fraction: float, message: str = "") -> None:
        """Tells how far the handler is, from 0 to 1. Raises ValueError for what is no number."""
        if math.isnan(fraction):
            raise ValueError("progress is a number from 0 to 1, not NaN")
        self._sink.progress(min(1.0, max(0.0, float(fraction))), str(message))

    # -- for the worker ------------------------------------------------------

    @property
    def noticed(self) -> bool:
        """Whether the handler has seen that it should stop."""
        return self._noticed

    def interrupt(self, interruption: Interruption) -> None:
        """Tells the handler to stop."""
        self._interruption = interruption
        self._interrupted.set()

    @property
    def _interrupted(self) -> Event:
        # Few handlers sleep, and an event costs more than the rest of this class.
        # Two threads that ask at once get the same one.
        return self.__dict__.setdefault("_event", Event())  # type: ignore[no-any-return]
