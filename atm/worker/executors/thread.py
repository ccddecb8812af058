"""Plain handlers: run in the worker's own thread, stopped by an exception raised in it."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

from atm.errors import TaskCancelled, TaskInterrupted, TaskTimedOut
from atm.worker.attempt import Attempt
from atm.worker.interruption import Interruption, Kind, Stopped
from atm.worker.texts import name_of, text_of

#: Between two exceptions for a handler that goes on: it may have swallowed the
#: first, or be cleaning up.
_REPEAT_SECONDS = 1.0
#: More than Python needs to raise what is for this thread.
_STEPS_BACK = 10
_EXCEPTIONS: dict[Kind, type[TaskInterrupted]] = {Kind.CANCEL: TaskCancelled, Kind.TIMEOUT: TaskTimedOut}


class _ThreadHandle:
    """Raises exceptions in one thread, until it is closed by that thread.

    Python raises them between two of its instructions: a call into C that does
    not return is not interrupted.
    """

    def __init__(self, grace: float) -> None:
        self._thread_id = threading.get_ident()
        self._next_at = grace
        self._lock = threading.Lock()
        self._open = True
        self.raised = False

    def press(self, interruption: Interruption, elapsed: float) -> None:
        """Raises the exception when the grace is over, and again each second."""
        with self._lock:
            if not self._open or elapsed < self._next_at:
                return
            self._next_at = elapsed + _REPEAT_SECONDS
            self.raised = True
            self._raise(_EXCEPTIONS.get(interruption.kind, TaskInterrupted))

    def close(self) -> None:
        """Nothing is raised any more, and what was raised too late is taken here and forgotten.

        It is not taken back: Python before 3.12 would go on looking for an
        exception, in every thread, and stand still where it is traced, as by a
        debugger or for coverage.
        """
        while True:
            try:
                with self._lock:
                    self._open = False
                if self.raised:
                    # It comes at a step back of a loop, at the latest: this is the thread that it is for.
                    for _ in range(_STEPS_BACK):
                        pass
                return
            except TaskInterrupted:
                pass  # once more: it may have come before the lock

    def _raise(self, exception: type[BaseException]) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(self._thread_id), ctypes.py_object(exception)
        )


class ThreadExecutor:
    """Runs plain handlers."""

    def run(self, attempt: Attempt, payload: Any) -> Any:
        """See `Executor`."""
        handle = _ThreadHandle(attempt.spec.cancel_grace)
        attempt.handle = handle
        try:
            try:
                value = attempt.spec.function(attempt.context, payload)
            finally:
                handle.close()
        except BaseException as error:
            attempt.raised = error
            # Once more: the exception may have come while it was being closed.
            # The next one would be a second away.
            handle.close()
            self._explain(attempt, handle, error)
            raise
        finally:
            attempt.handle = None
        if attempt.interruption is not None and attempt.noticed:
            raise Stopped("the handler noticed and returned")
        return value

    def _explain(self, attempt: Attempt, handle: _ThreadHandle, error: BaseException) -> None:
        """Raises Stopped if an interruption is behind the error."""
        if attempt.interruption is None or not _stems_from_interruption(error):
            return
        how = (
            "an exception was raised in its thread"
            if handle.raised
            else "the handler noticed and stopped by an exception"
        )
        if not issubclass(type(error), TaskInterrupted):
            how += f"; it then raised {name_of(error)}: {text_of(error)}"
        raise Stopped(how) from error

    def close(self) -> None:
        """Nothing to close."""


def _stems_from_interruption(error: BaseException) -> bool:
    behind: BaseException | None = error
    seen = set()
    # A handler can make a circle of causes.
    while behind is not None and id(behind) not in seen:
        if issubclass(type(behind), TaskInterrupted):
            return True
        seen.add(id(behind))
        behind = _behind(behind)
    return False


def _behind(error: BaseException) -> BaseException | None:
    try:
        cause = error.__cause__
        return error.__context__ if cause is None else cause
    except BaseException:  # noqa: BLE001 - the attributes of an exception may be the handler's code
        return None
