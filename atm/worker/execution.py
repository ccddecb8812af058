"""One attempt, from the hint in a message to its end in SQL."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from atm.batching.reply import Reply
from atm.errors import NonRetryableError
from atm.service.attempts import Answer, Claim, End
from atm.service.outcomes import Failed, Outcome, Succeeded, TimedOut
from atm.states import Reason
from atm.store.tasks import LostRaceError
from atm.worker.claims import Claims, Commits
from atm.worker.executors import Executor
from atm.worker.executors.process import ChildDiedError, ChildError
from atm.worker.handlers import HandlerSpec, Registry
from atm.worker.interruption import Stopped
from atm.worker.payloads import PayloadError, ResultError, bind, encode_result
from atm.worker.running import RunningAttempt, RunningAttempts

logger = logging.getLogger(__name__)

#: Ends that may wait to be committed: five commits' worth.
MOST_ENDING = 1000


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
        ends: Commits,
        claims: Claims,
        registry: Registry,
        running: RunningAttempts,
        executors: dict[str, Executor],
    ) -> None:
        self._ends = ends
        self._claims = claims
        self._registry = registry
        self._running = running
        self._executors = executors

    def run(self, task_id: str, number: int, claim: Reply[Answer] | None = None) -> None:
        """Runs a claimed attempt to its end; returns at once when the hint is out of date.

        The end is then on its way to SQL: see `RunningAttempts.ending`. Raises
        AttemptFailed for an attempt that may be followed by another.
        """
        task = self._claims.begin(task_id, number, claim)
        if task is None:
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
            outcome = self._outcome_of(attempt)
        if isinstance(outcome, Failed | TimedOut):
            raise AttemptFailed(attempt, outcome)
        self.finish(attempt, outcome)

    def finish(self, attempt: RunningAttempt, outcome: Outcome) -> None:
        """Has it written how the attempt ended, and what it has said last.

        Waits for that only where SQL is far behind: then no more is begun.
        """
        settled: Reply[Answer] = Reply()
        settled.add_done_callback(lambda settled: self._ended(attempt, outcome, settled))
        with attempt.journal.writing:
            report = attempt.journal.take()
            # From running to ending in one step: SQL will say for a while that it runs here.
            self._running.end(attempt, settled)
            self._ends.submit(End(attempt.task.task_id, attempt.task.attempt, outcome, report), settled)
        if len(self._ends) > MOST_ENDING:
            settled.wait()

    def _ended(self, attempt: RunningAttempt, outcome: Outcome, settled: Reply[Answer]) -> None:
        task, error = attempt.task, settled.exception()
        self._running.remove(attempt)
        if error is not None:
            self._running.unstored.add((task.task_id, task.attempt))
            logger.error("task %s: how it ended could not be stored: %s", task.task_id, error)
            return
        level = logging.DEBUG if isinstance(outcome, Succeeded) else logging.INFO
        logger.log(
            level,
            "task %s (%s), attempt %d: %s → %s",
            task.task_id,
            task.task_type,
            task.attempt,
            type(outcome).__name__,
            settled.result() or "refused",
        )

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


def unstorable(change: Claim | End, error: Exception) -> End:
    """What is stored instead of an end that the database cannot keep: the task must still end.

    Raises the error for anything else.
    """
    if isinstance(change, Claim) or isinstance(error, LostRaceError):
        raise error
    logger.error("task %s: how it ended cannot be stored", change.task_id, exc_info=error)
    outcome = Failed(Reason.INVALID_RESULT, "how the attempt ended cannot be stored", retryable=False)
    return End(change.task_id, change.attempt, outcome)


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
