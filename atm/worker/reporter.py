"""Tells SQL what happens here: what handlers say, and that the worker lives."""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy.engine import Connection

from atm.errors import UnavailableError
from atm.models import Worker, now
from atm.service.attempts import Attempts
from atm.service.outcomes import HandedBack, Outcome, WorkerLost
from atm.states import Status, WorkerStatus
from atm.store import tasks, workers
from atm.store.database import Database
from atm.worker.interruption import Kind
from atm.worker.running import RunningAttempt, RunningAttempts
from atm.worker.unbegun import Unbegun

logger = logging.getLogger(__name__)

#: How long a line of a handler waits for others before it is stored.
FLUSH_SECONDS = 0.2
#: How many heartbeats it takes until they are.
_LOOK_BEATS = 4
#: The most attempts that are looked at for whether they run.
_LOOK = 2000


class Reporter:
    """One thread that writes lines and progress, beats, and learns what SQL decided meanwhile."""

    def __init__(
        self,
        database: Database,
        attempts: Attempts,
        running: RunningAttempts,
        unbegun: Unbegun,
        worker: Worker,
        heartbeat_seconds: float,
    ) -> None:
        self._database = database
        self._attempts = attempts
        self._running = running
        self._unbegun = unbegun
        self._worker = worker
        self._heartbeat_seconds = heartbeat_seconds
        self._beat_at = time.monotonic() + heartbeat_seconds
        self._beats = 0
        self._untracked: set[tuple[str, int]] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="atm-reporter", daemon=True)

    def start(self) -> None:
        """Adds the worker to the registry and starts the thread. Raises UnavailableError."""
        self._database.write(lambda connection: workers.register(connection, self._worker))
        self._thread.start()

    def drain(self) -> None:
        """The worker takes no more tasks; the registry says so from the next heartbeat."""
        self._worker.status = WorkerStatus.DRAINING
        self._beat_at = time.monotonic()

    def stop(self) -> None:
        """Ends the thread and takes the worker out of the registry."""
        self._stopping.set()
        self._thread.join(timeout=5)
        try:
            self._database.write(lambda connection: workers.remove(connection, self._worker.worker_id))
        except UnavailableError as error:
            logger.warning("the worker stays in the registry until it is missed: %s", error)

    def _run(self) -> None:
        while not self._stopping.wait(FLUSH_SECONDS):
            try:
                self.run_once()
            except UnavailableError as error:
                logger.warning("%s; nothing is lost, trying again", error)
            except Exception:
                logger.exception("the reporter failed; it goes on")

    def run_once(self) -> None:
        """Writes what there is to write. Raises UnavailableError."""
        if time.monotonic() >= self._beat_at:
            self._beat()
            self._beat_at = time.monotonic() + self._heartbeat_seconds
        for attempt in self._running.all():
            self._flush(attempt)

    def _flush(self, attempt: RunningAttempt) -> None:
        with attempt.journal.writing:
            report = attempt.journal.take()
            if not report:
                return
            try:
                self._attempts.report(attempt.task.task_id, attempt.task.attempt, report)
            except UnavailableError:
                attempt.journal.put_back(report)
                raise

    def _beat(self) -> None:
        worker = self._worker
        running = self._running.all()
        worker.load, worker.last_heartbeat_at = len(running), now()

        def work(connection: Connection) -> dict[str, tasks.State]:
            status = WorkerStatus(worker.status)
            if not workers.beat(connection, worker.worker_id, worker.load, status, worker.last_heartbeat_at):
                # It was given up on, wrongly: what it ran is revoked below, the rest goes on.
                workers.register(connection, worker)
            return tasks.states(connection, [attempt.task.task_id for attempt in running])

        states = self._database.write(work)
        for attempt in running:
            self._obey(attempt, states.get(attempt.task.task_id))
        self._beats += 1
        if self._beats % _LOOK_BEATS == 0:
            self._end_untracked()

    def _end_untracked(self) -> None:
        """Ends attempts that SQL says run here, and that do not.

        That happens when the answer to a claim was lost with its connection,
        or an end could not be stored. Two looks in a row keep those out that
        are just being claimed or ended.
        """
        held = self._database.read(
            lambda connection: tasks.held_by(connection, self._worker.worker_id, _LOOK)
        )
        untracked = {(task.task_id, task.attempt) for task in held}
        untracked -= self._running.held() | self._unbegun.all()
        for task_id, attempt in untracked & self._untracked:
            outcome: Outcome = HandedBack("the answer to its claim was lost; it had not begun")
            if (task_id, attempt) in self._running.unstored:
                outcome = WorkerLost("how it ended could not be stored")
            status = self._attempts.finish(task_id, attempt, outcome)
            self._running.unstored.discard((task_id, attempt))
            logger.warning("task %s, attempt %d, runs nowhere: %s", task_id, attempt, status)
        self._untracked = untracked

    def _obey(self, attempt: RunningAttempt, state: tasks.State | None) -> None:
        """What Redis did not tell: that the task is cancelled, or no longer this attempt's."""
        held = (
            state is not None and state.status == Status.PROCESSING and state.attempt == attempt.task.attempt
        )
        if state is None or not held:
            attempt.interrupt(Kind.REVOKED)
        elif state.cancel_requested_at is not None:
            attempt.interrupt(Kind.CANCEL, state.cancel_requested_by)
