"""How wait_for_task asks, and when it gives up: the same for both clients.

Only decisions, no calls and no sleeping. A client asks GetTask where `looks()`
says so, and WaitTask with `hold_ms()` otherwise; it reports what came with
`saw()` or `failed()`, and sleeps `pause()` after a failure.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from atm.client.results import Task
from atm.client.tries import has_no_room
from atm.errors import DeadlineError, ServiceError, UnavailableError, WaitTimeoutError

FIRST_PAUSE_SECONDS = 0.02
MAX_PAUSE_SECONDS = 0.5
PAUSE_GROWTH = 1.5
#: A server that answered before may be gone for this long, as in a restart.
OUTAGE_SECONDS = 30.0
#: How long one WaitTask is held open, and by a client that wants to see progress.
HOLD_SECONDS = 20.0
WATCH_SECONDS = 0.5
#: A poll near the end of the wait still gets the time for one answer.
MIN_DEADLINE_SECONDS = 1.0


class Polling:
    """One wait for one task.

    `timeout` is the seconds to wait (None: for ever; the wait may take
    MIN_DEADLINE_SECONDS longer when the server hangs), `call_deadline` the
    seconds that one poll may take beside what it is held open for, and
    `watch` whether changes before the end are of interest.
    """

    def __init__(
        self,
        task_id: str,
        *,
        timeout: float | None,
        call_deadline: float,
        watch: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._task_id = task_id
        self._timeout = math.inf if timeout is None else max(0.0, timeout)
        self._call_deadline = call_deadline
        self._hold = WATCH_SECONDS if watch else HOLD_SECONDS
        self._clock = clock
        self._started = clock()
        self._answered = self._started
        self._pause = FIRST_PAUSE_SECONDS
        self._shortest_pause = 0.0
        self._last: Task | None = None
        self._looks = True

    def looks(self) -> bool:
        """Whether to look at the task, instead of waiting for its end.

        At first, so that a server that is not there is noticed; and where it
        takes no more that wait.
        """
        return self._looks

    def hold_ms(self) -> int:
        """How long the server shall wait for the end. Raises WaitTimeoutError when the time is up."""
        return max(1, round(min(self._hold, self._left()) * 1000))

    def deadline(self, hold_ms: int = 0) -> float:
        """The seconds that the next poll may take."""
        remaining = max(self._remaining(), MIN_DEADLINE_SECONDS)
        return min(self._call_deadline, remaining) + hold_ms / 1000

    def saw(self, task: Task) -> bool:
        """Takes an answer; whether it differs from the one before (the first one does)."""
        before, self._last = self._last, task
        self._answered = self._clock()
        self._looks = False
        return before != task

    def failed(self, error: ServiceError) -> None:
        """Takes a failed poll: returns if it is worth another one, else raises `error` or WaitTimeoutError.

        A server that never answered is not there. One that did is given
        OUTAGE_SECONDS to come back: the task it accepted goes on. So is one
        that has no room for the poll.
        """
        full = has_no_room(error)
        if not full and (self._last is None or not isinstance(error, UnavailableError | DeadlineError)):
            raise error
        self._looks = self._looks or full
        self._shortest_pause = error.retry_after or 0.0 if full else 0.0
        if self._remaining() > 0 and self._clock() - self._answered > OUTAGE_SECONDS:
            raise error

    def pause(self) -> float:
        """The seconds to sleep after a failure. Raises WaitTimeoutError when the time is up."""
        left = self._left()
        pause, self._pause = self._pause, min(self._pause * PAUSE_GROWTH, MAX_PAUSE_SECONDS)
        return min(max(pause, self._shortest_pause), left)

    def _left(self) -> float:
        remaining = self._remaining()
        if remaining <= 0:
            raise WaitTimeoutError(
                self._task_id, self._last.status if self._last else "UNKNOWN", self._timeout
            )
        return remaining

    def _remaining(self) -> float:
        return self._timeout - (self._clock() - self._started)
