"""How a worker process ends by itself, so that its parent starts it anew."""

from __future__ import annotations

import logging
import os
import signal

from atm.processes import Parent

logger = logging.getLogger(__name__)


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
