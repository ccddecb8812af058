"""Compares what SQL says runs in this worker with what does, and mends the difference."""

from __future__ import annotations

import logging

from atm.service.attempts import AttemptService
from atm.service.outcomes import HandedBack, Outcome, WorkerLost
from atm.states import Status
from atm.store import tasks
from atm.store.database import Database
from atm.worker.attempt import Attempt, AttemptId, Attempts, State
from atm.worker.interruption import Kind

logger = logging.getLogger(__name__)

#: How many times running attempts are looked at until untracked ones are, too.
_LOOKS = 4
#: The most attempts that are looked at for whether they run.
_MOST = 2000


class Reconciler:
    """A role with two looks at SQL.

    An attempt that runs here and holds its task no longer is revoked, one
    whose task was cancelled is interrupted: Redis may have lost the flag. An
    attempt that SQL says runs here and does not is ended. `interval` is in
    seconds.
    """

    def __init__(
        self, database: Database, attempts: Attempts, service: AttemptService, interval: float
    ) -> None:
        self.interval = interval
        self._database = database
        self._attempts = attempts
        self._service = service
        self._looks = 0
        self._untracked: set[AttemptId] = set()

    def run_once(self) -> bool:
        """One look. Raises UnavailableError."""
        running = self._attempts.running()
        ids = [attempt.id.task_id for attempt in running]
        states = self._database.read(lambda connection: tasks.states(connection, ids))
        for attempt in running:
            _obey(attempt, states.get(attempt.id.task_id))
        self._looks += 1
        if self._looks % _LOOKS == 0:
            self.end_untracked()
        return False

    def end_untracked(self) -> None:
        """Ends attempts that SQL says run here, and that do not. Raises UnavailableError.

        That happens when the answer to a claim was lost with its connection,
        or an end could not be stored. Two looks in a row keep those out that
        are just being claimed or ended.
        """
        unstored = {attempt.id: attempt for attempt in self._attempts.unstored()}
        held = self._database.read(
            lambda connection: tasks.held_by(connection, self._service.worker_id, _MOST)
        )
        untracked = {AttemptId(task.task_id, task.attempt) for task in held} - self._attempts.held()
        for attempt_id in untracked & self._untracked:
            outcome: Outcome = HandedBack("the answer to its claim was lost; it had not begun")
            if attempt_id in unstored:
                outcome = WorkerLost("how it ended could not be stored")
            status = self._service.finish(*attempt_id, outcome)
            logger.warning("task %s, attempt %d, runs nowhere: %s", *attempt_id, status)
        self._untracked = untracked
        # SQL holds them no longer, whoever has ended them.
        for attempt_id, attempt in unstored.items():
            if attempt_id not in untracked:
                self._attempts.step(attempt, State.STORED)


def _obey(attempt: Attempt, state: tasks.State | None) -> None:
    """Interrupts an attempt that is cancelled, or no longer holds its task."""
    if state is None or state.status != Status.PROCESSING or state.attempt != attempt.id.number:
        attempt.interrupt(Kind.REVOKED)
    elif state.cancel_requested_at is not None:
        attempt.interrupt(Kind.CANCEL, state.cancel_requested_by)
