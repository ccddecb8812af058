"""What a running attempt has said and SQL has not yet heard."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

from atm.models import now
from atm.service.attempts import Line, Progress, Report
from atm.service.history_bound import MAX_CHARACTERS, MAX_LINES
from atm.store.logs import clip
from atm.values import storable
from atm.worker.texts import plain


class LogBuffer:
    """Takes lines and progress from a handler, at no cost to it, and gives them out in order.

    `writing` is held while a report that was taken is written, so that what
    was said first is stored first. `now` tells when a line was said.
    """

    def __init__(self, now: Callable[[], datetime] = now) -> None:
        self._now = now
        self.writing = threading.Lock()
        self._lock = threading.Lock()
        self._lines: list[Line] = []
        self._progress: Progress | None = None
        self._count = self._characters = 0
        self._full = False

    def line(self, message: str) -> bool:
        """Adds a line, up to MAX_LINES and MAX_CHARACTERS; False when it is not kept, nor will others be."""
        with self._lock:
            if self._full:
                return False
            message = clip(plain(message))
            self._count += 1
            self._characters += len(message)
            self._full = self._count == MAX_LINES or self._characters > MAX_CHARACTERS
            if self._full:
                limit = f"{MAX_LINES} lines or {MAX_CHARACTERS} characters"
                message = f"more than {limit}: this line and those that follow are not kept"
            self._lines.append(Line(message, self._now()))
            return not self._full

    def progress(self, fraction: float, message: str) -> None:
        """Replaces what was last said about the progress."""
        with self._lock:
            # Lines are made so where they are stored.
            self._progress = Progress(fraction, storable(plain(message)))

    def take(self) -> Report:
        """What was said since the last time."""
        with self._lock:
            report = Report(self._lines, self._progress)
            self._lines, self._progress = [], None
            return report

    def put_back(self, report: Report) -> None:
        """What was taken could not be written: it comes first the next time."""
        with self._lock:
            self._lines = [*report.lines, *self._lines]
            self._progress = self._progress or report.progress
