"""How much one worker process does before it makes room for a new one."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

import psutil

from atm.processes import EXIT_RECYCLED
from atm.worker.attempt import Attempts
from atm.worker.retirement import Retirement

_MB = 1024 * 1024
#: Workers that were started together shall not all end together: each draws
#: its limit from this last share of it.
_SPREAD = 0.1


class Limits:
    """A role that has the process end in order after `max_tasks`, or above `max_memory_mb`; 0: no limit.

    Memory is the process's resident set. `memory` tells it, in bytes.
    """

    interval = 0.5

    def __init__(
        self,
        attempts: Attempts,
        retirement: Retirement,
        max_tasks: int,
        max_memory_mb: int,
        memory: Callable[[], int] = lambda: int(psutil.Process().memory_info().rss),
    ) -> None:
        self._attempts = attempts
        self._retirement = retirement
        self._max_tasks = max_tasks - random.randint(0, int(max_tasks * _SPREAD))
        self._max_memory_mb = max_memory_mb
        self._memory = memory

    def run_once(self) -> bool:
        """One look."""
        begun = self._attempts.begun_count
        if self._max_tasks and begun >= self._max_tasks:
            self._end(f"it has begun {begun} tasks, its share of ATM_MAX_TASKS")
        # One that is too large from the start does some work at least.
        elif self._max_memory_mb and begun and (used := self._memory()) > self._max_memory_mb * _MB:
            self._end(f"it holds {used // _MB} MB, ATM_MAX_MEMORY_MB is {self._max_memory_mb}")
        return False

    def _end(self, why: str) -> None:
        self._retirement.ask(EXIT_RECYCLED, logging.INFO, why)
