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
_EXCEPTIONS: dict[Kind, type[TaskInterrupted]] = {Kind.CANCEL: TaskCancelled, Kind.TIMEOUT: TaskTimedOut}


class _TakenBack(BaseException):
    """In the place of an exception that was raised too late."""


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
        """Nothing is raised any more, and what was raised too late is forgotten."""
        with self._lock:
            self._open = False
            if self.raised:
                self._take_back()

    def _take_back(self) -> None:
        """Forgets an exception that was raised in this thread and has not come yet.

        By another one in its place, which is caught here. Python before 3.12 can
        forget one by itself, but then stands still where it is traced, as by a
        debugger or for coverage.
        """
        try:
            self._raise(_TakenBack)
            while True:
                pass
        except _TakenBack:
            return

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
