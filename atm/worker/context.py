"""What a handler is given beside its payload."""

from __future__ import annotations

import functools
import logging
import math
from threading import Event
from typing import Protocol

from atm.errors import TaskInterrupted
from atm.service.attempts import ClaimedTask
from atm.worker.interruption import Interruption
from atm.worker.texts import name_of, plain, text_of

#: The lines of every handler go here too, for the worker's own output.
_LOGGER_NAME = "atm.task"


class Sink(Protocol):
    """Where the lines and the progress of a handler go. `line` returns False when no more lines are kept."""

    def line(self, message: str) -> bool: ...
    def progress(self, fraction: float, message: str) -> None: ...


class _SinkHandler(logging.Handler):
    """Adds lines to a task's history, until it takes no more; then cuts their logger off the worker's."""

    def __init__(self, task_id: str, sink: Sink, logger: logging.Logger) -> None:
        super().__init__(logging.INFO)
        self._task_id = task_id
        self._sink = sink
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        text = plain(self.format(record))
        is_plain = record.levelno <= logging.INFO
        is_kept = self._sink.line(text if is_plain else f"{plain(record.levelname)}: {text}")
        if not is_kept and self._logger.propagate:
            # logging looks at it after this: this record does not go on, either.
            self._logger.propagate = False
            logging.getLogger(_LOGGER_NAME).warning(
                "task %s: its attempt has logged more than is kept; that does not come here, either",
                self._task_id,
            )


class _TaskLogger(logging.Logger):
    """A logger whose records can be formatted, whatever they are made of, by all of its handlers.

    A line is no reason for a task to fail, and the next one is not lost with it.
    """

    def handle(self, record: logging.LogRecord) -> None:
        """See logging."""
        try:
            record.getMessage()
        except TaskInterrupted:
            raise  # the handler is to stop
        except BaseException as error:  # noqa: BLE001 - arguments are the handler's, and so is their text
            record.msg = f"{text_of(record.msg)} (its arguments cannot be shown: {name_of(error)})"
            record.args = ()
        if record.exc_info and not record.exc_text:
            try:
                record.exc_text = _FORMATTER.formatException(record.exc_info)
            except TaskInterrupted:
                raise
            except BaseException as error:  # noqa: BLE001 - the same
                record.exc_text = f"(its traceback cannot be shown: {name_of(error)})"
        super().handle(record)

    def getChild(self, suffix: str) -> _TaskLogger:  # noqa: N802 - logging's name
        """See logging; a child's lines are the task's, too."""
        child = _TaskLogger(f"{self.name}.{suffix}")
        child.parent = self
        return child


_FORMATTER = logging.Formatter()


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
        """Its lines go into the task's history, and into the worker's log, up to the bound of an attempt."""
        # Not in logging's tree of names, which would keep one for each task.
        logger = _TaskLogger(f"{_LOGGER_NAME}.{self.task_type}", logging.DEBUG)
        logger.parent = logging.getLogger(_LOGGER_NAME)
        logger.addHandler(_SinkHandler(self.task_id, self._sink, logger))
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
        try:
            if math.isnan(fraction):
                raise ValueError("progress is a number from 0 to 1, not NaN")
        except OverflowError:
            pass  # an int that no float can be: cut below
        self._sink.progress(float(min(1, max(0, fraction))), text_of(message))

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
