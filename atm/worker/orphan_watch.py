"""Ends a worker whose parent is gone, and buries the children that its handlers forgot."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time

from atm.processes import Parent

logger = logging.getLogger(__name__)

#: A process whose parent is gone is gone itself after this long, whatever it is doing.
EXIT_SECONDS = 6.0


class OrphanWatch:
    """A role that looks whether the process that started this one still lives.

    It also reaps children that handlers started and left without waiting:
    nobody can wait for those any more, and they would be zombies until another
    child is started.
    """

    interval = 0.5

    def __init__(self, parent: Parent) -> None:
        self._parent = parent

    def run_once(self) -> bool:
        """One look; does not return when the parent is gone."""
        if self._parent.is_gone:
            logger.warning("the process that started this worker is gone: it stops")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(EXIT_SECONDS)
            os._exit(1)
        # Only those whose Popen is gone; what somebody may still wait for is left alone.
        subprocess._cleanup()  # type: ignore[attr-defined]  # noqa: SLF001 - each new Popen calls it, too
        return False
