"""One attempt, from the hint in a message to its end in SQL."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from atm.errors import NonRetryableError, UnavailableError
from atm.models import Reason, Status
from atm.service.attempts import Attempts, Report
from atm.service.outcomes import Failed, Outcome, Succeeded, TimedOut
from atm.worker.executors import Executor
from atm.worker.executors.process import ChildDiedError, ChildError
from atm.worker.handlers import HandlerSpec, Registry
from atm.worker.interruption import Stopped
from atm.worker.payloads import PayloadError, ResultError, bind, encode_result
from atm.worker.running import RunningAttempt, RunningAttempts

logger = logging.getLogger(__name__)

R = TypeVar("R")

#: Between two tries to write to an SQL that is out of reach.
_AGAIN_SECONDS = 0.5


class AttemptFailed(Exception):  # noqa: N818 - what Dramatiq's middleware sees of a failed attempt
    """An attempt failed or ran out of time; the retry middleware decides what follows."""

    def __init__(self, attempt: RunningAttempt, outcome: Failed | TimedOut) -> None:
        said = outcome.error if isinstance(outcome, Failed) else outcome.how
        super().__init__(f"task {attempt.task.task_id}, attempt {attempt.task.attempt}: {said}")
        self.attempt = attempt
        self.outcome = outcome


class Execution:
    """Runs attempts, each in the thread that calls `run`."""

    def __init__(
        self,
        attempts: Attempts,
        registry: Registry,
        running: RunningAttempts,
        executors: dict[str, Executor],
    ) -> None:
        self._attempts = attempts
        self._registry = registry
        self._running = running
        self._executors = executors
        # Set when SQL is no longer waited for.
        self.leaving = threading.Event()

    def run(self, task_id: str, number: int) -> None:
        """Claims the attempt and runs it to its end; returns at once when the hint is out of date.

        Raises AttemptFailed for an attempt that may be followed by another.
        """
        if self._running.get(task_id) is not None:
            return  # a doubled message
        task = self._insist(lambda: self._attempts.claim(task_id, number))
        if task is None:
            logger.debug("task %s, attempt %d: out of date, or someone else's", task_id, number)
            return
        spec = self._registry.get(task.task_type)
        attempt = RunningAttempt(task, spec or HandlerSpec(task.task_type, _no_function))
        outcome: Outcome
        if spec is None:
            outcome = Failed(
                Reason.NO_HANDLER,
                f"this worker has no handler for the task type {task.task_type!r}",
                retryable=False,
            )
        else:
            self._running.add(attempt)
            try:
                outcome = self._outcome_of(attempt)
            finally:
                self._running.remove(attempt)
        if isinstance(outcome, Failed | TimedOut):
            raise AttemptFailed(attempt, outcome)
        self.finish(attempt, outcome)

    def finish(self, attempt: RunningAttempt, outcome: Outcome) -> Status | None:
        """Writes how the attempt ended, and what it has said last. Waits for SQL to be there."""
        task = attempt.task
        with attempt.journal.writing:
            report = attempt.journal.take()
            try:
                status = self._insist(lambda: self._write(attempt, outcome, report))
            except Exception:
                # A defect, or a value that this database cannot keep: the task must still end.
                logger.exception("task %s: how it ended cannot be stored", task.task_id)
                unstorable = Failed(
                    Reason.INVALID_RESULT, "how the attempt ended cannot be stored", retryable=False
                )
                status = self._insist(lambda: self._write(attempt, unstorable, Report()))
        logger.info(
            "task %s (%s), attempt %d: %s → %s",
            task.task_id,
            task.task_type,
            task.attempt,
            type(outcome).__name__,
            status or "refused",
        )
        return status

    def _write(self, attempt: RunningAttempt, outcome: Outcome, report: Report) -> Status | None:
        return self._attempts.finish(attempt.task.task_id, attempt.task.attempt, outcome, report)

    def _outcome_of(self, attempt: RunningAttempt) -> Outcome:
        """Runs the handler. Never raises."""
        task, spec = attempt.task, attempt.spec
        try:
            payload = bind(task.payload, spec.payload_model)
        except PayloadError as error:
            return Failed(Reason.INVALID_PAYLOAD, f"the payload does not fit: {error}", retryable=False)
        try:
            value: Any = self._executors[spec.executor].run(attempt, payload)
            return Succeeded(encode_result(value))
        except Stopped as stop:
            assert attempt.interruption is not None, "nothing else stops a handler"
            return attempt.interruption.outcome(stop.how)
        except ResultError as error:
            return Failed(Reason.INVALID_RESULT, f"the result cannot be kept: {error}", retryable=False)
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is how its attempt ended
            return _failure(error)

    def _insist(self, write: Callable[[], R]) -> R | None:
        """What `write` returns, however long SQL is away; None when the worker leaves meanwhile."""
        while True:
            try:
                return write()
            except UnavailableError as error:
                logger.warning("%s; trying again", error)
                if self.leaving.wait(_AGAIN_SECONDS):
                    return None


def _no_function(_context: Any, _payload: Any) -> None:
    raise AssertionError("never called")


def _failure(error: BaseException) -> Failed:
    if isinstance(error, ChildDiedError):
        return Failed(Reason.WORKER_LOST, str(error))
    retryable = not isinstance(error, NonRetryableError)
    if isinstance(error, ChildError):
        return Failed(Reason.HANDLER_ERROR, error.description, error.traceback, retryable)
    # The frames of ATM itself say nothing about the handler.
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("atm.worker.ex"):
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace or error.__traceback__))
    return Failed(Reason.HANDLER_ERROR, f"{type(error).__name__}: {error}", text, retryable)
