"""Decides, after an attempt that failed, whether and when there is another."""

from __future__ import annotations

from typing import Any, ClassVar

from dramatiq import Middleware

from atm.worker.execution import AttemptFailed
from atm.worker.runtime import WorkerRuntime


class Retries(Middleware):
    """Writes the failure and what follows from it: a retry that waits in SQL, or the end.

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
        """Runs before the message is acknowledged: which then waits for what is committed here."""
        if isinstance(exception, AttemptFailed):
            self._runtime.execution.finish(exception.attempt, exception.outcome)
        message.settled = self._runtime.running.ending(*message.args)
