"""The log of a process: one line for each event, on stderr, whatever the event's text holds."""

from __future__ import annotations

import copy
import logging
import sys
import threading
import time
from types import TracebackType

from atm.escape import visible

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
#: Begins each line of a traceback, which no line of an event begins with.
CONTINUED = "    | "

logger = logging.getLogger(__name__)


def configure(level: str) -> None:
    """Sends ATM's lines of this level and above to stderr, and the warnings of libraries."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("atm").setLevel(level)
    make_visible()


def make_visible() -> None:
    """From here on nothing that a line tells of can look like another line, or be acted on by a terminal.

    That holds for the handlers that the root logger has, for what is logged
    where there are none, and for exceptions that nobody catches: they are
    logged.
    """
    last = [logging.lastResort] if logging.lastResort is not None else []
    for handler in [*logging.getLogger().handlers, *last]:
        if not isinstance(handler.formatter, VisibleFormatter):
            handler.setFormatter(VisibleFormatter(handler.formatter or logging.Formatter()))
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


class VisibleFormatter(logging.Formatter):
    """Another formatter's line, made visible; a traceback follows it, its lines behind CONTINUED."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record. Its second and later lines begin with CONTINUED."""
        event = copy.copy(record)
        event.exc_info = event.exc_text = event.stack_info = None
        lines = [visible(self._inner.format(event))]
        if record.exc_info:
            lines += _continued(self._inner.formatException(record.exc_info))
        if record.stack_info:
            lines += _continued(self._inner.formatStack(record.stack_info))
        return "\n".join(lines)


def _continued(text: str) -> list[str]:
    return [CONTINUED + visible(line) for line in text.split("\n")]


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    logger.critical("an exception was not caught", exc_info=(kind, error, traceback))


def _log_uncaught_in_thread(hook: threading.ExceptHookArgs) -> None:
    if hook.exc_value is None or issubclass(hook.exc_type, SystemExit):
        return
    name = hook.thread.name if hook.thread is not None else "a thread"
    logger.critical(
        "an exception ended %s", name, exc_info=(hook.exc_type, hook.exc_value, hook.exc_traceback)
    )


class Occasionally:
    """Lets one of many like lines through: the first, and then one in `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next_at = float("-inf")
        self._count = 0

    def count(self) -> int:
        """How often it happened since the last line, with this time; 0 when nothing is to be logged now."""
        self._count += 1
        now = time.monotonic()
        if now < self._next_at:
            return 0
        count, self._count = self._count, 0
        self._next_at = now + self._seconds
        return count
