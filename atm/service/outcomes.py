"""How an attempt can end, and what then becomes of its task. Pure: no clock, no SQL.

The row of an end has one of the `words` of its outcome: by these it is known again.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from atm.models import Task
from atm.retrying import wait_ms
from atm.service.history_bound import BRIEF_MESSAGE, DETAILED_RETRIES
from atm.states import LogType, Reason, Status
from atm.store.logs import NewRow, clip
from atm.store.tasks import Move
from atm.values import storable

#: The first line of an error is enough for lists; the whole is in the log.
MAX_ERROR_MESSAGE = 2000


@dataclass(frozen=True)
class Succeeded:
    """The handler returned."""

    result: Mapping[str, str]
    refused_as = "the result"

    @property
    def words(self) -> tuple[str, ...]:
        return ("succeeded",)


@dataclass(frozen=True)
class Failed:
    """The handler raised, or could not be called. `traceback` may be empty."""

    reason: Reason
    error: str
    traceback: str = ""
    retryable: bool = True
    refused_as = "the failure"

    @property
    def words(self) -> tuple[str, ...]:
        return (f"failed: {self.error}",)


@dataclass(frozen=True)
class TimedOut:
    """The attempt ran out of time. `how` says what was done to it."""

    how: str
    refused_as = "the timeout"

    @property
    def words(self) -> tuple[str, ...]:
        return (self.how,)


@dataclass(frozen=True)
class Cancelled:
    """The attempt ended because the task was cancelled. `how` says what ended it."""

    how: str
    refused_as = "the cancellation"

    @property
    def words(self) -> tuple[str, ...]:
        return (self.how,)


@dataclass(frozen=True)
class HandedBack:
    """The worker stops and did not finish. Nobody's fault, so no retry is spent."""

    why: str
    refused_as = "the end"

    @property
    def words(self) -> tuple[str, ...]:
        return (f"handed back: {self.why}", f"its worker stopped: {self.why}")


@dataclass(frozen=True)
class WorkerLost:
    """The worker is gone. That spends a retry: the task may be what killed it."""

    why: str
    refused_as = "the loss"

    @property
    def words(self) -> tuple[str, ...]:
        return (f"was lost: {self.why}",)


def internal_error(what: str, traceback: str = "") -> Failed:
    """The outcome of an attempt in which something happened that was not foreseen; `what` was seen of it."""
    return Failed(Reason.INTERNAL_ERROR, what, traceback)


Outcome = Succeeded | Failed | TimedOut | Cancelled | HandedBack | WorkerLost


def decide(
    task: Task, outcome: Outcome, at: datetime, worker_id: str, rng: random.Random | None = None
) -> Move:
    """What becomes of `task`, which is PROCESSING, when its current attempt ends like this."""
    end = _Ending(task, at, worker_id)
    match outcome:
        case Succeeded(result):
            return end.final(
                Status.SUCCESS, f"attempt {task.attempt} succeeded", {"result": dict(result), "progress": 1.0}
            )
        case Cancelled(how):
            return end.cancelled(how)
        case HandedBack(why):
            if task.cancel_requested_at is not None:
                return end.cancelled(f"its worker stopped: {why}")
            return end.pending(LogType.STATE_CHANGE, f"attempt {task.attempt} was handed back: {why}", at)
        case Failed(reason, error, traceback, retryable):
            said = f"attempt {task.attempt} failed: {error}"
            return end.retry_or(Status.FAILED, reason, error, said, traceback, LogType.RETRY, rng, retryable)
        case TimedOut(how):
            error = f"attempt {task.attempt} ran longer than {task.timeout_ms / 1000:g} s"
            said = f"{error}; {how}"
            return end.retry_or(Status.TIMEOUT, Reason.TIMED_OUT, error, said, "", LogType.RETRY, rng)
        case WorkerLost(why):
            said = f"attempt {task.attempt} was lost: {why}"
            return end.retry_or(Status.FAILED, Reason.WORKER_LOST, said, said, "", LogType.STATE_CHANGE, rng)


@dataclass(frozen=True)
class _Ending:
    task: Task
    at: datetime
    worker_id: str

    def final(self, status: Status, message: str, values: dict[str, Any]) -> Move:
        always = {"deadline_at": None, "worker_id": self.worker_id}
        return self._move(status, LogType.STATE_CHANGE, message, always | values)

    def cancelled(self, how: str) -> Move:
        by = self.task.cancel_requested_by or "someone unknown"
        values = {"error_reason": Reason.CANCELLED, "error_message": f"cancelled by {by}"}
        return self.final(Status.CANCELLED, f"cancelled by {by}: {how}", values)

    def failed(self, status: Status, reason: Reason, error: str, said: str, traceback: str) -> Move:
        message = error.strip().splitlines()[0] if error.strip() else reason
        values = {"error_reason": reason, "error_message": storable(message)[:MAX_ERROR_MESSAGE]}
        explanation = NewRow(
            self.task.task_id,
            LogType.ERROR,
            traceback or error or reason,
            self.at,
            worker_id=self.worker_id,
            attempt=self.task.attempt,
        )
        return self.final(status, said, values)._replace(after=[explanation])

    def pending(
        self, log_type: LogType, message: str, due_at: datetime, values: dict[str, Any] | None = None
    ) -> Move:
        # Nobody holds it, and the relay sends the next message when it is due.
        always = {"deadline_at": None, "worker_id": "", "due_at": due_at, "dispatch_at": due_at}
        return self._move(Status.PENDING, log_type, message, always | (values or {}))

    def retry_or(
        self,
        final: Status,
        reason: Reason,
        error: str,
        said: str,
        traceback: str,
        log_type: LogType,
        rng: random.Random | None,
        retryable: bool = True,
    ) -> Move:
        """A retry, if one is left and nobody wants the task to end; `final` otherwise."""
        task = self.task
        retry = task.retry_count + 1
        if not retryable or retry > task.max_retry:
            return self.failed(final, reason, error, said, traceback)
        if task.cancel_requested_at is not None:
            return self.cancelled(f"{said}; not tried again")
        wait = wait_ms(
            strategy=task.retry_strategy,
            delay_ms=task.retry_delay_ms,
            backoff_rate=task.retry_backoff_rate,
            max_delay_ms=task.retry_max_delay_ms,
            retry=retry,
            rng=rng,
        )
        message = f"{said}; retry {retry} of {task.max_retry} in {wait / 1000:.1f} s"
        if traceback:
            message += f"\n{traceback}"
        if task.attempt > DETAILED_RETRIES:
            message = clip(message, BRIEF_MESSAGE)
        return self.pending(log_type, message, self.at + timedelta(milliseconds=wait), {"retry_count": retry})

    def _move(self, to_status: Status, log_type: LogType, message: str, values: dict[str, Any]) -> Move:
        return Move(
            self.task.task_id,
            Status.PROCESSING,
            self.task.attempt,
            to_status,
            message,
            self.worker_id,
            log_type,
            values,
        )
