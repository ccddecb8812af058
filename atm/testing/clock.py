"""The time of one attempt: the clock's, or one that only passes while the handler waits."""

from __future__ import annotations

import time


class Clock:
    """Seconds since the attempt began.

    With `skips` only what is waited for counts, and a sleep takes no time: a
    test is quick, and comes out the same on a slow machine. `limit` is how
    many seconds the attempt may take; None: as many as it takes.
    """

    def __init__(self, limit: float | None, *, skips: bool) -> None:
        self.skips = skips
        self._limit = limit
        self._began = time.monotonic()
        self._passed = 0.0

    @property
    def now(self) -> float:
        """The age of the attempt in seconds."""
        return self._passed if self.skips else time.monotonic() - self._began

    @property
    def left(self) -> float | None:
        """The seconds that the attempt has left; None: no limit, or it was lifted."""
        return None if self._limit is None else max(0.0, self._limit - self.now)

    def skip(self, seconds: float) -> bool:
        """Lets time pass, to the limit at most; whether that is reached now, for the first time."""
        left = self.left
        # Ten times a tenth is a little less than one.
        if left is None or seconds < left - 1e-9:
            self._passed += max(0.0, seconds)
            return False
        self._passed += left
        self.lift()
        return True

    def lift(self) -> None:
        """The limit counts no longer: the handler was told to stop."""
        self._limit = None
