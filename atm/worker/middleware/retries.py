"""Says what kind of end a failed attempt is; what follows from it is decided in SQL (outcomes.decide)."""

from __future__ import annotations

from typing import Any

from dramatiq import Middleware

from atm.errors import NonRetryableError
from atm.service.outcomes import Failed, Outcome, internal_error
from atm.states import Reason
from atm.worker.attempt import Attempt
from atm.worker.executors.process import ChildDiedError, ChildError
from atm.worker.interruption import Stopped
from atm.worker.payloads import PayloadError, ResultError
from atm.worker.runtime import WorkerRuntime
from atm.worker.texts import name_of, text_of, traceback_of

#: Frames of these modules stand above the handler's own, and say nothing about it.
_OUTSIDE = ("dramatiq.", "atm.actors", "atm.worker.ex", "atm.worker.payloads")


class Retries(Middleware):
    """Hands on how an attempt failed, to be decided and committed: a retry, or the end of its task.

    Dramatiq's own middleware of this name is not installed: it would send the
    message again, over days.
    """

    def __init__(self, runtime: WorkerRuntime) -> None:
        self._runtime = runtime

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """The actor has returned; it raises only what ATM's own code did not foresee."""
        attempt: Attempt = message.attempt
        error = exception if attempt.failure is None else attempt.failure
        if error is None or attempt.context is None:
            return
        self._runtime.completer.complete(attempt, outcome_of(attempt, error))


def outcome_of(attempt: Attempt, error: BaseException) -> Outcome:
    """The outcome of an attempt out of which this came. Raises nothing."""
    try:
        return classify(attempt, error)
    except BaseException as defect:  # noqa: BLE001 - an exception may do anything when it is looked at
        return internal_error(f"{name_of(error)}, which cannot be told: {name_of(defect)}")


def classify(attempt: Attempt, error: BaseException) -> Outcome:
    """The same; raises what `error` raises when it is looked at."""
    # The handler's own first: it may raise what ATM raises, too, or what must not be looked at.
    if error is attempt.raised:
        retryable = not issubclass(type(error), NonRetryableError)
        return Failed(Reason.HANDLER_ERROR, _told(error), traceback_of(error, _OUTSIDE), retryable)
    match error:
        case Stopped() if attempt.interruption is not None:
            return attempt.interruption.outcome(error.how)
        case PayloadError():
            return Failed(Reason.INVALID_PAYLOAD, f"the payload does not fit: {error}", retryable=False)
        case ResultError():
            return Failed(Reason.INVALID_RESULT, f"the result cannot be kept: {error}", retryable=False)
        case ChildDiedError():
            return Failed(Reason.WORKER_LOST, str(error))
        case ChildError():
            retryable = not isinstance(error, NonRetryableError)
            return Failed(Reason.HANDLER_ERROR, error.description, error.traceback, retryable)
    return internal_error(_told(error), traceback_of(error, _OUTSIDE))


def _told(error: BaseException) -> str:
    return f"{name_of(error)}: {text_of(error)}"
