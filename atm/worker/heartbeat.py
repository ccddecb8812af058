"""This worker in the worker registry: there, how busy, draining, gone."""

from __future__ import annotations

import logging

from atm.errors import UnavailableError
from atm.models import Worker
from atm.states import WorkerStatus
from atm.store import workers
from atm.store.database import Connection, Database
from atm.worker.attempt import Attempts

logger = logging.getLogger(__name__)

_DRAINING_SECONDS = 0.5


class Heartbeat:
    """A role that says that the worker lives, and how many handlers it runs.

    Beside it a process of its own says that it lives (heartbeat_process), for
    the time when a handler holds Python's lock. `interval` is in seconds.
    """

    def __init__(self, database: Database, attempts: Attempts, worker: Worker, interval: float) -> None:
        self._interval = interval
        self._database = database
        self._attempts = attempts
        self._worker = worker

    @property
    def interval(self) -> float:
        """In seconds; one that drains says so soon."""
        draining = self._worker.status == WorkerStatus.DRAINING
        return min(self._interval, _DRAINING_SECONDS) if draining else self._interval

    def start(self) -> None:
        """Adds the worker to the registry. Raises UnavailableError."""
        self._database.write(lambda connection: workers.register(connection, self._worker))

    def run_once(self) -> bool:
        """One heartbeat. Raises UnavailableError."""
        worker, clock = self._worker, self._database.clock
        self._database.compare_clocks()
        worker.load, worker.last_heartbeat_at = self._attempts.load, clock.now()
        worker.clock_ahead_ms = clock.ahead_ms
        worker.stuck_tasks = [attempt.id.task_id for attempt in self._attempts.stuck()]

        def work(connection: Connection) -> None:
            if not workers.beat(connection, worker):
                # It was given up on, wrongly: the reconciler revokes what it ran, the rest goes on.
                workers.register(connection, worker)

        self._database.write(work)
        return False

    def drain(self) -> None:
        """The worker takes no more tasks; the registry says so from the next heartbeat."""
        self._worker.status = WorkerStatus.DRAINING

    def stop(self) -> None:
        """Takes the worker out of the registry."""
        try:
            self._database.write(lambda connection: workers.remove(connection, self._worker.worker_id))
        except UnavailableError as error:
            logger.warning("the worker stays in the registry until it is missed: %s", error)
