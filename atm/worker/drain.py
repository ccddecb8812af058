"""The end of what runs in a worker that stops: it may go on for a while, is told to stop, is handed back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from atm.errors import UnavailableError
from atm.service.outcomes import HandedBack
from atm.worker.attempt import Attempt, Attempts
from atm.worker.completer import Completer
from atm.worker.interruption import Kind

logger = logging.getLogger(__name__)

#: How long handlers that were told that the worker stops may take to end.
STOP_SECONDS = 2.0
_LOOK_SECONDS = 0.01


class Drain:
    """Ends what runs, with the worker's threads still there. `hurry` has nobody wait for an SQL that is away.

    When `stopped` is set, nothing runs any more.
    """

    def __init__(
        self,
        attempts: Attempts,
        completer: Completer,
        stopped: threading.Event,
        hurry: Callable[[], None],
    ) -> None:
        self._attempts = attempts
        self._completer = completer
        self._stopped = stopped
        self._hurry = hurry

    def run(self, seconds: float) -> bool:
        """Lets what runs go on for `seconds`; whether all threads are free then.

        Those that are not are held by handlers that do not return; their tasks are someone else's by now.
        """
        # What begins, what runs, and what ends but is not stored yet. For those that were given up on
        # before nobody waits.
        done = self.none_within(seconds, lambda: len(self._attempts.unended()))
        self._hurry()
        if not done:
            for attempt in self._attempts.running():
                attempt.interrupt(Kind.DRAIN)
            self.none_within(STOP_SECONDS, lambda: len(self._running()))
        for attempt in self._running():
            self._hand_back(attempt)
        return not self._attempts.running()

    def none_within(self, seconds: float, count: Callable[[], int]) -> bool:
        """Waits until `count` says 0, up to `seconds`, or until the worker has stopped; whether it is so."""
        end = time.monotonic() + seconds
        while count() and time.monotonic() < end:
            if self._stopped.wait(_LOOK_SECONDS):
                return True
        return not count()

    def _running(self) -> list[Attempt]:
        return [attempt for attempt in self._attempts.running() if not attempt.given_up]

    def _hand_back(self, attempt: Attempt) -> None:
        task = attempt.task
        logger.warning("task %s (%s) does not stop; it is handed back", task.task_id, task.task_type)
        try:
            self._completer.give_up(attempt, HandedBack("its worker stops; the handler did not react"))
        except UnavailableError:
            logger.warning("it is not: the database cannot be reached; it is missed later")
