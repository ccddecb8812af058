"""What a caller of group commit gets before its transaction is committed: a reply, and what keeps it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Given = TypeVar("Given", contravariant=True)


class Promise(Protocol[Given]):
    """The end of a future that is kept by a batch: one of threads, one of asyncio, or a Reply."""

    def done(self) -> bool: ...
    def set_result(self, result: Given, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...


class Reply(Generic[Result]):
    """A result that threads wait for, or that is passed on: a Future at a third of its cost."""

    __slots__ = ("_answered", "_callbacks", "_exception", "_result", "answered")

    def __init__(self) -> None:
        self._answered = threading.Lock()
        self._answered.acquire()
        #: Whether there is a result or an exception.
        self.answered = False
        self._result: Result
        self._exception: BaseException | None = None
        self._callbacks: list[Callable[[Reply[Result]], None]] = []

    def done(self) -> bool:
        """Always False: unlike an asyncio future, a Reply cannot be cancelled, so its item is committed."""
        return False

    def set_result(self, result: Result, /) -> None:
        """Wakes who waits with a result."""
        self._result = result
        self.answered = True
        self._answered.release()
        if self._callbacks:
            self._call_back()

    def set_exception(self, exception: BaseException, /) -> None:
        """Wakes who waits with an exception."""
        self._exception = exception
        self.answered = True
        self._answered.release()
        if self._callbacks:
            self._call_back()

    def wait(self, seconds: float = -1) -> bool:
        """Waits until there is an answer, up to `seconds` if they are given; returns whether there is one."""
        if self.answered:
            return True
        if not self._answered.acquire(timeout=seconds):
            return False
        self._answered.release()
        return True

    def result(self) -> Result:
        """Waits for the result. Raises the exception that was set instead of one."""
        self.wait()
        if self._exception is not None:
            raise self._exception
        return self._result

    def exception(self) -> BaseException | None:
        """Waits for the answer; the exception that was set instead of a result, if one was."""
        self.wait()
        return self._exception

    def add_done_callback(self, callback: Callable[[Reply[Result]], None], /) -> None:
        """Calls `callback` with this reply once it is answered: in the thread that answers, or at once."""
        self._callbacks.append(callback)
        if self.answered:
            self._call_back()

    def _call_back(self) -> None:
        # Popping is one step: of two threads, one calls the callback.
        while self._callbacks:
            try:
                callback = self._callbacks.pop()
            except IndexError:
                return
            try:
                callback(self)
            except Exception:
                # The thread that answers has other replies to answer.
                logger.exception("a callback of a reply failed")
