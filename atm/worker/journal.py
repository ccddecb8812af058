"""What a running attempt has said and SQL has not yet heard."""

from __future__ import annotations

import threading

from atm.models import now
from atm.service.attempts import Line, Progress, Report

#: The most lines that one attempt can add to its task's history.
MAX_LINES = 1000


class Journal:
    """Takes lines and progress from a handler, at no cost to it, and gives them out in order.

    `writing` is held while a report that was taken is written, so that what
    was said first is stored first.
    """

    def __init__(self) -> None:
        self.writing = threading.Lock()
        self._lock = threading.Lock()
        self._lines: list[Line] = []
        self._progress: Progress | None = None
        self._count = 0

    def line(self, message: str) -> None:
        """Adds a line, up to MAX_LINES."""
        with self._lock:
            self._count += 1
            if self._count > MAX_LINES:
                return
            if self._count == MAX_LINES:
                message = f"more than {MAX_LINES} lines: this one and those that follow are not kept"
            self._lines.append(Line(message, now()))

    def progress(self, fraction: float, message: str) -> None:
        """Replaces what was last said about the progress."""
        with self._lock:
            self._progress = Progress(fraction, message)

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
