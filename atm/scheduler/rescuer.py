"""Takes back the tasks of workers that are gone."""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial

from atm.models import Task
from atm.service.attempts import AttemptService
from atm.service.outcomes import WorkerLost
from atm.store import tasks, workers
from atm.store.database import Database

logger = logging.getLogger(__name__)

#: How many tasks of a worker are taken back in one sweep.
BATCH = 500


class Rescuer:
    """A dead worker's tasks → back, or FAILED when no retry is left.

    A worker is dead when it has not been heard of for `lease` seconds, or when
    it is not in the registry at all.
    """

    def __init__(self, database: Database, lease: float, interval: float = 1.0) -> None:
        self.interval = interval
        self._database = database
        self._lease = timedelta(seconds=lease)

    def run_once(self) -> bool:
        """Takes back what dead workers hold; True when there is more."""
        clock = self._database.clock
        if clock.stepped_within(self._lease.total_seconds()):
            # Another database after a failover, say: what was heard before was in the time of the old one.
            return self._take_back()
        unheard_since = clock.now() - self._lease
        for worker_id in self._database.read(partial(workers.unheard, since=unheard_since)):
            removal = partial(workers.remove, worker_id=worker_id, unheard_since=unheard_since)
            if self._database.write(removal):
                logger.warning("worker %s was not heard of for %s: it is lost", worker_id, self._lease)
        return self._take_back()

    def _take_back(self) -> bool:
        holders, known = self._database.read(
            lambda connection: (tasks.holders(connection), workers.all_workers(connection))
        )
        more = False
        for worker_id in holders - {worker.worker_id for worker in known}:
            held = self._database.read(partial(tasks.held_by, worker_id=worker_id, limit=BATCH))
            for task in held:
                self._take_back_one(task)
            more = more or len(held) == BATCH
        return more

    def _take_back_one(self, task: Task) -> None:
        service = AttemptService(self._database, task.worker_id)
        outcome = WorkerLost(f"its worker {task.worker_id} was not heard of any more")
        status = service.finish(task.task_id, task.attempt, outcome)
        logger.warning(
            "task %s, attempt %d, was lost with its worker: %s", task.task_id, task.attempt, status
        )
