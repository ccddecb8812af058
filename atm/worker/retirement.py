"""How a worker process ends by itself, so that its parent starts it anew."""

from __future__ import annotations

import logging
import os
import signal
import time

from atm.processes import Parent

logger = logging.getLogger(__name__)

#: How long a process that retires waits for the master's others, which were told to stop when it was.
#: With what it takes itself, it is less than heartbeat_process.STOP_SECONDS, after which it is killed.
_OTHERS_SECONDS = 2.5
_LOOK_SECONDS = 0.05
#: ... and until it waits for this one again.
_TURN_SECONDS = 0.2


class Retirement:
    """Has the worker drain and end with another exit code than 0. Nobody asks for it once it drains."""

    def __init__(self, parent: Parent) -> None:
        self._parent = parent
        self._draining = False
        #: What the process ends with.
        self.exit_code = 0

    def ask(self, exit_code: int, level: int, why: str) -> None:
        """Asks for it, once. `level` is the log's: whether anything is wrong."""
        if self._draining or self.exit_code:
            return
        self.exit_code = exit_code
        logger.log(level, "the worker drains and ends: %s", why)
        # Dramatiq's master ends all of its workers when one has ended, and calls that unexpected. Asked
        # to, it has them all drain at the same time, and ends with this worker's exit code.
        parent = self._parent
        directly = parent.is_told and parent.nearest == parent.pid and not parent.is_gone
        os.kill(parent.pid if directly else os.getpid(), signal.SIGTERM)

    def drains(self) -> None:
        """The worker drains, for this reason or another."""
        self._draining = True

    def leave(self) -> int:
        """The exit code to end with now; one that is not 0 is told when the master's others have ended.

        The master waits for one worker after the other, a second each time, and
        sees no code of one that ended while it waited for the last of the others.
        """
        end = time.monotonic() + _OTHERS_SECONDS
        if self.exit_code and self._parent.has_others():
            while self._parent.has_others() and time.monotonic() < end:
                time.sleep(_LOOK_SECONDS)
            time.sleep(_TURN_SECONDS)
        return self.exit_code
