"""Ends attempts that are over their time, where their worker lives but does not."""

from __future__ import annotations

import logging
from datetime import timedelta

from atm.service.attempts import AttemptService
from atm.service.outcomes import TimedOut
from atm.store import tasks
from atm.store.database import Database

logger = logging.getLogger(__name__)

#: A worker ends its own attempts within two seconds of their time; clocks differ.
GRACE = timedelta(seconds=6)
BATCH = 500


class TimeoutSweeper:
    """Overdue → TIMEOUT, or another attempt."""

    interval = 1.0

    def __init__(self, database: Database) -> None:
        self._database = database

    def run_once(self) -> bool:
        """Ends what is overdue; True when there is more."""
        before = self._database.clock.now() - GRACE
        late = self._database.read(lambda connection: tasks.overdue(connection, before, BATCH))
        for task in late:
            logger.warning("task %s, attempt %d, is over its time", task.task_id, task.attempt)
            outcome = TimedOut("its worker did not end it")
            AttemptService(self._database, task.worker_id).finish(task.task_id, task.attempt, outcome)
        return len(late) == BATCH
