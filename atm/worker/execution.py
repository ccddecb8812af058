"""The execution of one attempt: claimed, bound to its handler, run, and completed."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping
from datetime import datetime

from atm.models import now
from atm.service.outcomes import Failed, Succeeded
from atm.states import Reason
from atm.worker.attempt import Attempt
from atm.worker.claims import Claims
from atm.worker.completer import Completer
from atm.worker.executors import Executor
from atm.worker.handlers import HandlerRegistry
from atm.worker.log_buffer import LogBuffer
from atm.worker.payloads import PayloadError, bind, encode_result


class Execution:
    """Runs attempts, each in the thread that calls `run`. `now` tells the time of what handlers log."""

    def __init__(
        self,
        claims: Claims,
        completer: Completer,
        registry: HandlerRegistry,
        executors: Mapping[str, Executor],
        now: Callable[[], datetime] = now,
    ) -> None:
        self._claims = claims
        self._completer = completer
        self._registry = registry
        self._executors = executors
        self._now = now

    def run(self, attempt: Attempt) -> None:
        """Runs an attempt until its handler returns; its end is then on its way to SQL.

        Returns at once when the hint is out of date. What comes out of the
        handler, its payload's model or its executor is kept in
        `attempt.failure`: the retry middleware says what kind of end that is.
        It is not raised, because Dramatiq would look at it, and believe a
        handler that raises one of Dramatiq's own exceptions.
        """
        task = self._claims.begin(attempt)
        if task is None:
            return
        attempt.prepare(task, LogBuffer(self._now))
        try:
            # What it sets in a context variable (decimal's precision is one) is gone with it. An empty
            # context, not a copy: a copy shares what is in it.
            contextvars.Context().run(self._run, attempt)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the attempt gets an end
            attempt.failure = error

    def _run(self, attempt: Attempt) -> None:
        task = attempt.task
        spec = self._registry.get(task.task_type)
        if spec is None:
            said = f"this worker has no handler for the task type {task.task_type!r}"
            self._completer.complete(attempt, Failed(Reason.NO_HANDLER, said, retryable=False))
            return
        attempt.spec = spec
        try:
            payload = bind(task.payload, spec.payload_model)
        except PayloadError:
            raise
        except BaseException as error:
            # The model is the handler's code, too.
            attempt.raised = error
            raise
        value = self._executors[spec.executor].run(attempt, payload)
        if not attempt.ends_elsewhere:
            self._completer.complete(attempt, Succeeded(encode_result(value)))
