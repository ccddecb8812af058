"""The life of one attempt in SQL: claimed, remarked on, and ended exactly once.

Each function is one transaction. An attempt that was given up on holds the
task no longer; what it still reports is refused, and the refusal is logged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from atm.models import PROGRESS_MESSAGE_LENGTH, LogType, Status, Task, TaskLog, now
from atm.service.outcomes import Outcome, decide
from atm.store import logs, tasks
from atm.store.database import Database
from atm.store.tasks import Move

#: How far the clock of a worker may be behind the server's that sent the message.
_CLOCK_TOLERANCE = timedelta(seconds=5)


@dataclass(frozen=True)
class Line:
    """Something that a handler logged."""

    message: str
    at: datetime


@dataclass(frozen=True)
class Progress:
    """How far a handler says it is: from 0 to 1, and in words."""

    fraction: float
    message: str = ""


@dataclass(frozen=True)
class Report:
    """What an attempt has to tell since its last report."""

    lines: Sequence[Line] = ()
    progress: Progress | None = None

    def __bool__(self) -> bool:
        return bool(self.lines) or self.progress is not None


class Attempts:
    """The attempts of one worker (or, for a server, those that it takes back)."""

    def __init__(self, database: Database, worker_id: str) -> None:
        self._database = database
        self.worker_id = worker_id

    def claim(self, task_id: str, attempt: int) -> Task | None:
        """The task, now held by this worker; None when the hint is out of date."""

        def work(connection: Connection) -> Task | None:
            at = now()
            task = tasks.get(connection, task_id)
            if task is None or task.status != Status.PENDING or task.attempt + 1 != attempt:
                return None
            if task.due_at > at + _CLOCK_TOLERANCE:
                return None
            values = {
                "attempt": attempt,
                "worker_id": self.worker_id,
                "started_at": at,
                "deadline_at": at + timedelta(milliseconds=task.timeout_ms) if task.timeout_ms else None,
                "dispatch_at": None,
                "progress": 0.0,
                "progress_message": "",
            }
            change = Move(
                task_id,
                Status.PENDING,
                task.attempt,
                Status.PROCESSING,
                f"attempt {attempt} started",
                self.worker_id,
                values=values,
            )
            if not tasks.move(connection, change, at):
                return None
            return task.model_copy(update={"status": Status.PROCESSING, **values})

        return self._database.write(work)

    def report(self, task_id: str, attempt: int, report: Report) -> bool:
        """Adds what the attempt has to tell; False, and nothing, when it no longer holds the task."""

        def work(connection: Connection) -> bool:
            if not tasks.holds(connection, task_id, attempt):
                return False
            self._write_report(connection, task_id, attempt, report)
            return True

        return self._database.write(work)

    def finish(
        self, task_id: str, attempt: int, outcome: Outcome, report: Report | None = None
    ) -> Status | None:
        """Ends the attempt, with its last report.

        The state that the task got, or None when the attempt held it no longer.
        """

        def work(connection: Connection) -> Status | None:
            at = now()
            # Locked: a cancellation that came between reading and writing would
            # be overlooked, and leave a task that waits and must not start.
            task = tasks.get(connection, task_id, lock=True)
            if task is None:
                return None
            if task.status == Status.PROCESSING and task.attempt == attempt:
                decision = decide(task, outcome, at, self.worker_id)
                if report:
                    self._write_report(connection, task_id, attempt, report)
                if tasks.move(connection, decision.move, at):
                    logs.add(connection, *decision.remarks)
                    return decision.move.to_status
            refusal = (
                f"{outcome.refused_as} of attempt {attempt} was refused: the attempt had been given up on"
            )
            logs.add(connection, self._remark(task_id, attempt, refusal, at))
            return None

        return self._database.write(work)

    def _write_report(self, connection: Connection, task_id: str, attempt: int, report: Report) -> None:
        rows = [self._remark(task_id, attempt, line.message, line.at) for line in report.lines]
        logs.add(connection, *rows)
        if report.progress is not None:
            words = report.progress.message[:PROGRESS_MESSAGE_LENGTH]
            tasks.touch_progress(connection, task_id, attempt, report.progress.fraction, words)

    def _remark(self, task_id: str, attempt: int, message: str, at: datetime) -> TaskLog:
        return TaskLog(
            task_id=task_id,
            log_type=LogType.INFO,
            message=message,
            worker_id=self.worker_id,
            attempt=attempt,
            created_at=at,
        )
