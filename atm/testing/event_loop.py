"""The event loop of an async handler under test: private to one run, and with the run's own time."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple, Unpack

from atm.testing.clock import Clock
from atm.worker.executors.handlers_loop import HandlersLoop

_CLOSE_SECONDS = 2.0
#: Threads that may be there without the handler waiting for them: what asyncio's own do is counted,
#: and the other one only stops handlers.
_KNOWN_THREADS = ("asyncio_", "atm-")

Pass = Callable[[float], None]
Select = Callable[[float | None], list[Any]]
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class RunLoop(HandlersLoop):
    """An event loop whose clock is that of the run.

    Where the run skips sleeps and the handler waits for nothing but a timer,
    the clock is set to the timer's time. While it waits for a socket or a
    thread, time passes as it does outside. `pass_time` is told of the seconds.
    """

    def __init__(self, clock: Clock, pass_time: Pass) -> None:
        self._clock = clock
        self._pass_time = pass_time
        self._jobs = 0
        self._before = set(threading.enumerate())
        self._thread: threading.Thread | None = None
        super().__init__(_SkippingSelector(self))

    def time(self) -> float:
        """See asyncio."""
        return self._clock.now

    def run_forever(self) -> None:
        """See asyncio."""
        self._thread = threading.current_thread()
        self._before.add(self._thread)
        super().run_forever()

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """See asyncio."""
        future = super().run_in_executor(executor, func, *args)
        self._jobs += 1
        future.add_done_callback(self._job_is_done)
        return future

    def _job_is_done(self, _future: asyncio.Future[Any]) -> None:
        self._jobs -= 1

    def wait_in(self, select: Select, sources: int, timeout: float | None) -> Any:
        """What became ready: after `timeout` seconds of the run's time at most. `sources` are watched."""
        # Without a coroutine the handler has not begun: that is not its time.
        if not self._clock.skips or not asyncio.all_tasks(self):
            return select(timeout)
        ready = select(0)
        if ready or timeout == 0:
            return ready
        # One source is the loop's own, which wakes it.
        if timeout is not None and sources <= 1 and not self._jobs and not self._has_threads():
            self._pass_time(timeout)
            return ready
        left = self._clock.left
        waits = [seconds for seconds in (timeout, left) if seconds is not None]
        began = time.monotonic()
        ready = select(min(waits) if waits else None)
        self._pass_time(time.monotonic() - began)
        return ready

    def _has_threads(self) -> bool:
        """Whether the handler has started a thread, which it may be waiting for."""
        return any(
            thread not in self._before and not thread.name.startswith(_KNOWN_THREADS)
            for thread in threading.enumerate()
        )

    def end(self, stop: Callable[[], None]) -> None:
        """Cancels what the handler left running, then stops the loop by `stop`, and closes it.

        A coroutine that blocks the loop keeps it: then it stays.
        """
        if self.is_running():
            # A future of its own is waited for: a coroutine that hangs must not hang the test.
            leaving = asyncio.run_coroutine_threadsafe(self._leave(), self)
            with contextlib.suppress(Exception):
                leaving.result(_CLOSE_SECONDS)
        stop()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)
            if not self._thread.is_alive():
                self.close()

    async def _leave(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self.shutdown_asyncgens()
        await self.shutdown_default_executor()


class _SkippingSelector(selectors.DefaultSelector):
    def __init__(self, loop: RunLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]] = self._loop.wait_in(
            super().select, len(self.get_map()), timeout
        )
        return ready
