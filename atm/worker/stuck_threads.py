"""Threads that are lost to handlers which do not return: listed, told of, and got back by a new process."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from atm.processes import EXIT_STUCK
from atm.worker.attempt import Attempt, Attempts
from atm.worker.retirement import Retirement
from atm.worker.whereabouts import where

logger = logging.getLogger(__name__)

#: How long a thread counts as perhaps coming back: a handler may be cleaning up.
PATIENCE_SECONDS = 5.0
#: The wait before a handler is told of again: the first, and the longest. It doubles.
FIRST_REPEAT_SECONDS = 60.0
MAX_REPEAT_SECONDS = 3600.0


@dataclass
class _Stuck:
    since: float
    say_at: float
    repeat: float = FIRST_REPEAT_SECONDS


class StuckThreads:
    """A role that tells of handlers which ended in SQL and hold their thread all the same.

    When they hold half of the process's `threads` it drains and ends.
    """

    interval = 1.0

    def __init__(self, attempts: Attempts, retirement: Retirement, threads: int) -> None:
        self._attempts = attempts
        self._retirement = retirement
        self._threads = threads
        self._known: dict[Attempt, _Stuck] = {}

    def run_once(self) -> bool:
        """One look."""
        now = time.monotonic()
        stuck = self._attempts.stuck()
        self._known = {a: self._known.get(a) or _Stuck(now, now) for a in stuck}
        for attempt, known in self._known.items():
            if now >= known.say_at:
                known.say_at = now + known.repeat
                known.repeat = min(2 * known.repeat, MAX_REPEAT_SECONDS)
                self._say(attempt, now)
        lost = sum(self._is_lost(attempt, known, now) for attempt, known in self._known.items())
        if lost and 2 * lost >= self._threads:
            why = f"{lost} of its {self._threads} threads are held by handlers that do not return"
            self._retirement.ask(EXIT_STUCK, logging.ERROR, why)
        return False

    def _say(self, attempt: Attempt, now: float) -> None:
        task, told = attempt.task, attempt.interruption
        logger.warning(
            "task %s (%s) holds a thread although its attempt %d has ended (%s): "
            "it was told to stop %.0f s ago, and is at %s",
            task.task_id,
            task.task_type,
            task.attempt,
            told.kind if told else "given up",
            now - told.at if told else 0.0,
            where(attempt),
        )

    def _is_lost(self, attempt: Attempt, known: _Stuck, now: float) -> bool:
        told = attempt.interruption
        # Only after its grace is it made to stop.
        pressed_at = told.at + attempt.cancel_grace if told else known.since
        return now - max(known.since, pressed_at) >= PATIENCE_SECONDS
