"""Counting tasks without making callers wait for a long table to be read."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from atm.errors import UnavailableError

logger = logging.getLogger(__name__)

#: A count that took this long is not waited for the next time.
SLOW_SECONDS = 0.05
#: ... and is made again in the background when it is this many times as old as it took.
_REST = 10


@dataclass(frozen=True)
class _Counted:
    value: Any
    took: float
    at: float


class Counts:
    """The last counts. Quick ones are made anew each time, and so are exact.

    One that takes long, as over millions of rows, is as old as ten times what
    it takes to count: seconds. Only the first caller of a process waits for it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[Hashable, _Counted] = {}
        self._counting: set[Hashable] = set()

    def get(self, key: Hashable, count: Callable[[], Any]) -> Any:
        """What `count` gives, or gave. Raises what it raises."""
        known = self._known.get(key)
        if known is None or known.took < SLOW_SECONDS:
            return self._count(key, count)
        if self._clock() - known.at > _REST * known.took:
            self._count_later(key, count)
        return known.value

    def _count(self, key: Hashable, count: Callable[[], Any]) -> Any:
        began = self._clock()
        value = count()
        now = self._clock()
        self._known[key] = _Counted(value, now - began, now)
        return value

    def _count_later(self, key: Hashable, count: Callable[[], Any]) -> None:
        with self._lock:
            if key in self._counting:
                return
            self._counting.add(key)

        def work() -> None:
            try:
                self._count(key, count)
            except UnavailableError as error:
                logger.warning("tasks cannot be counted: %s", error)
            finally:
                with self._lock:
                    self._counting.discard(key)

        threading.Thread(target=work, name="atm-count", daemon=True).start()
