"""Async handlers: coroutines on one event loop for the whole process, stopped by cancelling their task."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from atm.errors import TaskInterrupted
from atm.worker.attempt import Attempt
from atm.worker.interruption import Interruption, Stopped
from atm.worker.texts import name_of, text_of
from atm.worker.whereabouts import frame_of_task

logger = logging.getLogger(__name__)

#: Between two cancellations of a coroutine that goes on.
_REPEAT_SECONDS = 1.0


class _TaskHandle:
    def __init__(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
        self._loop = loop
        self._task = task
        self._next_at = 0.0
        self.raised = False

    def press(self, _interruption: Interruption, elapsed: float) -> None:
        """Cancels the coroutine at once, and again each second."""
        if elapsed >= self._next_at:
            self._next_at = elapsed + _REPEAT_SECONDS
            self._loop.call_soon_threadsafe(self._cancel)

    def frame(self) -> FrameType | None:
        """Where its coroutine is."""
        return frame_of_task(self._task)

    def _cancel(self) -> None:
        if not self._task.done():
            self.raised = True
            self._task.cancel()


class CoroutineExecutor:
    """Runs async handlers. The loop, which `new_loop` makes, starts with the first of them."""

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop) -> None:
        self._new_loop = new_loop
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def run(self, attempt: Attempt, payload: Any) -> Any:
        """See `Executor`."""
        call = asyncio.run_coroutine_threadsafe(self._call(attempt, payload), self._running_loop())
        value, error = call.result()
        if error is not None:
            raise error
        return value

    async def _call(self, attempt: Attempt, payload: Any) -> tuple[Any, BaseException | None]:
        """What `run` returns, or what it raises.

        Not raised here: a future hands on another TimeoutError than the handler's, without its traceback.
        """
        # A task of its own: cancelling it must not cancel this one, which tells how it ended.
        call = asyncio.ensure_future(_contained(attempt, payload))
        handle = _TaskHandle(asyncio.get_running_loop(), call)
        attempt.handle = handle
        try:
            await asyncio.wait([call])
        finally:
            attempt.handle = None
        interrupted = attempt.interruption is not None
        if call.cancelled():
            if interrupted:
                return None, Stopped("its coroutine was cancelled")
            attempt.raised = RuntimeError("the handler cancelled itself: a CancelledError came out of it")
            return None, attempt.raised
        error = call.exception()
        if error is None:
            if interrupted and attempt.noticed and not handle.raised:
                return None, Stopped("the handler noticed and returned")
            return call.result(), None
        attempt.raised = error
        if interrupted and (handle.raised or issubclass(type(error), TaskInterrupted)):
            how = "its coroutine was cancelled" if handle.raised else "the handler noticed and stopped"
            return None, Stopped(f"{how}; it then raised {name_of(error)}: {text_of(error)}")
        return None, error

    def close(self) -> None:
        """Ends the loop."""
        self._closed = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = self._new_loop()
                target, args = self._keep_running, (self._loop,)
                threading.Thread(target=target, args=args, name="atm-handlers", daemon=True).start()
            return self._loop

    def _keep_running(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._closed:
            try:
                loop.run_forever()
            except BaseException:
                # A SystemExit or a KeyboardInterrupt in a task that a handler has started.
                logger.exception("a task on the handlers' event loop wanted to end it; it goes on")
        loop.close()


async def _contained(attempt: Attempt, payload: Any) -> Any:
    try:
        return await attempt.spec.function(attempt.context, payload)
    except (SystemExit, KeyboardInterrupt) as error:
        # Either would end the loop, and with it every other coroutine.
        raise RuntimeError(f"the handler raised {name_of(error)}: {text_of(error)}") from error
