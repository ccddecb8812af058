"""Says what kind of end a failed attempt is; what follows from it is decided in SQL (outcomes.decide)."""

from __future__ import annotations

import traceback
from typing import Any, ClassVar

from dramatiq import Middleware

from atm.errors import NonRetryableError
from atm.service.outcomes import Failed, Outcome, internal_error
from atm.states import Reason
from atm.worker.attempt import Attempt
from atm.worker.executors.process import ChildDiedError, ChildError
from atm.worker.interruption import Stopped
from atm.worker.payloads import PayloadError, ResultError
from atm.worker.runtime import WorkerRuntime
from atm.worker.texts import text_of

#: Frames of these modules stand above the handler's own, and say nothing about it.
_OUTSIDE = ("dramatiq.", "atm.actors", "atm.worker.ex", "atm.worker.payloads")


class Retries(Middleware):
    """Hands on how an attempt failed, to be decided and committed: a retry, or the end of its task.

    Dramatiq's own middleware of this name is not installed: it would send the
    message again, over days.
    """

    # What an actor may say: the exceptions that are no news for the worker's log.
    actor_options: ClassVar[set[str]] = {"throws"}

    def __init__(self, runtime: WorkerRuntime) -> None:
        self._runtime = runtime

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """The actor has returned, or raised what came out of the attempt."""
        attempt: Attempt = message.attempt
        if exception is None or attempt.context is None:
            return
        self._runtime.completer.complete(attempt, outcome_of(attempt, exception))

    def after_skip_message(self, broker: Any, message: Any) -> None:
        """The cancel middleware skipped it, or a handler raised Dramatiq's own SkipMessage."""
        attempt: Attempt = message.attempt
        if attempt.raised is not None:
            self.after_process_message(broker, message, exception=attempt.raised)


def outcome_of(attempt: Attempt, error: BaseException) -> Outcome:
    """The outcome of an attempt out of which this came. Raises nothing."""
    try:
        return classify(attempt, error)
    except BaseException as defect:  # noqa: BLE001 - an exception may do anything when it is looked at
        return internal_error(f"{_name(error)}, which cannot be told: {_name(defect)}")


def classify(attempt: Attempt, error: BaseException) -> Outcome:
    """The same; raises what `error` raises when it is looked at."""
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
    text = f"{_name(error)}: {text_of(error)}"
    trace = _traceback(error)
    if error is attempt.raised:
        return Failed(Reason.HANDLER_ERROR, text, trace, not isinstance(error, NonRetryableError))
    return internal_error(text, trace)


def _name(error: BaseException) -> str:
    return type(error).__name__


def _traceback(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(_OUTSIDE):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace or error.__traceback__))
