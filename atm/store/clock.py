"""The database's time, as this process knows it: the one clock that all of an installation share."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

logger = logging.getLogger(__name__)

#: A process whose own clock is further away says so.
NOTEWORTHY = timedelta(seconds=1)
#: File systems stamp with the time of the kernel's last tick, of which there are at least 100 a second.
FILE_TIME_RESOLUTION = timedelta(milliseconds=10)


class DatabaseClock:
    """Tells the database's time without asking it each time. Safe to use from several threads.

    It starts from this machine's clock, goes on with the monotonic one, which
    nobody sets, and is put right by what the database answers (`observe`).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # A moment of the database's, and of `time.monotonic`.
        self._base = (datetime.now(UTC), time.monotonic())
        self._observed = False
        self._stepped_at = float("-inf")
        self._ahead = self._said = timedelta(0)

    def now(self) -> datetime:
        """The database's time, in UTC."""
        base, at = self._base
        return base + timedelta(seconds=time.monotonic() - at)

    @property
    def ahead(self) -> timedelta:
        """How far this machine's own clock was ahead of the database's when they were last compared."""
        return self._ahead

    @property
    def ahead_ms(self) -> int:
        """`ahead` in milliseconds, which say no more than how far is noteworthy."""
        return round(self._ahead / timedelta(milliseconds=1))

    def stepped_within(self, seconds: float) -> bool:
        """Whether the database's time has jumped by more than NOTEWORTHY within the last so many seconds.

        What was written before that cannot be compared with the time now.
        """
        return time.monotonic() - self._stepped_at < seconds

    def observe(
        self,
        told: datetime,
        asked_at: float,
        answered_at: float,
        own: datetime,
        resolution: timedelta = timedelta(0),
    ) -> None:
        """Takes note of a time that the database told between two moments of `time.monotonic`.

        Whatever lies within these two may be true: a clock that cannot be right
        moves to the nearest moment that can, which never makes it worse. `own` is what this machine's
        clock said when the answer came; `resolution` says by how much the
        database's may be behind.
        """
        latest = told + timedelta(seconds=answered_at - asked_at) + resolution
        with self._lock:
            base, at = self._base
            here = base + timedelta(seconds=answered_at - at)
            right = min(max(here, told), latest)
            if right != here:
                self._base = (right, answered_at)
                if self._observed and abs(right - here) > NOTEWORTHY:
                    self._stepped_at = answered_at
            self._observed = True
            self._ahead = own - right
            self._say()

    def _say(self) -> None:
        if abs(self._ahead - self._said) <= NOTEWORTHY or abs(self._ahead) <= NOTEWORTHY >= abs(self._said):
            return
        self._said = self._ahead
        seconds = self._ahead.total_seconds()
        if abs(self._ahead) <= NOTEWORTHY:
            logger.info("this machine's clock agrees with the database's again")
            return
        where = "ahead of" if seconds > 0 else "behind"
        logger.warning(
            "this machine's clock is %.1f s %s the database's, which is used: is its time synchronized?",
            abs(seconds),
            where,
        )


def file_time(folder: Path) -> datetime:
    """The time of the file system that holds a folder: what a file gets that is made now. Raises OSError.

    It is SQLite's clock here: the processes that share a database share it,
    whatever is made of the time of any of them.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        return datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)
