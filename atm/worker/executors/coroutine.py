"""Async handlers: coroutines on one event loop for the whole process, stopped by cancelling their task."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from atm.batching.reply import Reply
from atm.worker.attempt import Attempt
from atm.worker.executors.async_run import Answer, AsyncRun
from atm.worker.executors.handlers_loop import HandlersLoop, origin_of, run_of_handle
from atm.worker.texts import name_of, text_of, traceback_of

logger = logging.getLogger(__name__)


class LoopEndedError(Exception):
    """The event loop ended under an attempt, which may have done anything or nothing by then."""


class CoroutineExecutor:
    """Runs async handlers. The loop, which `new_loop` makes, starts with the first of them.

    A loop that has ended, by whatever means, is followed by a new one.
    """

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop] = HandlersLoop) -> None:
        self._new_loop = new_loop
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None
        self._closed = False

    @property
    def thread(self) -> LoopThread | None:
        """The thread of the loop; None before the first async handler."""
        return self._thread

    def run(self, attempt: Attempt, payload: Any) -> Any:
        """See `Executor`."""
        run = AsyncRun(attempt, payload)
        reply: Reply[Answer] = Reply()
        while not self._living_thread().begin(run, reply):
            pass  # it ended just now
        value, error = reply.result()
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """Ends the loop."""
        with self._lock:
            self._closed = True
            if self._thread is not None:
                self._thread.close()

    def _living_thread(self) -> LoopThread:
        with self._lock:
            if self._closed:
                raise LoopEndedError("the worker stops")
            if self._thread is None or not self._thread.lives():
                self._thread = LoopThread(self._new_loop())
            return self._thread


class LoopThread:
    """A thread with an event loop, and the attempts on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._lock = threading.Lock()
        # Who is taken out of it gets its answer, from whoever has done so.
        self._runs: dict[AsyncRun, Reply[Answer]] = {}
        self._ended = self._closed = False
        self._thread = threading.Thread(target=self._keep_running, name="atm-handlers", daemon=True)
        # Not in the context of the attempt that needs it first.
        contextvars.Context().run(self._thread.start)

    @property
    def count(self) -> int:
        """How many attempts are on the loop."""
        return len(self._runs)

    def lives(self) -> bool:
        """Whether the loop runs. If its thread has died its attempts end here."""
        if not self._thread.is_alive() and not self._ended:
            self._end("its thread died")
        return not self._ended

    def begin(self, run: AsyncRun, reply: Reply[Answer]) -> bool:
        """Starts an attempt on the loop, which answers `reply`; False when the loop has ended."""
        with self._lock:
            if self._ended:
                return False
            self._runs[run] = reply
        try:
            self.loop.call_soon_threadsafe(run.begin, self.loop, self._settle, context=run.context)
        except RuntimeError as error:
            # Somebody has closed it.
            is_mine = self._runs.pop(run, None) is not None
            self._end(str(error))
            return not is_mine
        return True

    def call(self, callback: Callable[[], object]) -> None:
        """Has the loop call this when it comes to it; never, if it has ended."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(callback)

    def frame(self) -> FrameType | None:
        """Where the thread is."""
        return sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001

    def close(self) -> None:
        """Ends the loop; what still runs on it is cancelled."""
        self._closed = True
        self.call(self._leave)

    def _leave(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.call_soon(self.loop.stop)

    def _keep_running(self) -> None:
        how = "the worker stops"
        try:
            while not self._closed:
                try:
                    self.loop.run_forever()
                except (SystemExit, KeyboardInterrupt) as error:
                    # asyncio lets these out of any callback, with the loop as it was.
                    if not self._blame(error):
                        raise
                else:
                    if not self._closed:
                        logger.warning("something stopped the event loop of async handlers; it goes on")
        except BaseException as error:  # noqa: BLE001 - whatever it is, the loop is not to be trusted
            how = f"{name_of(error)}: {text_of(error)}"
            logger.error(  # noqa: TRY400 - its text may be a handler's code
                "the event loop of async handlers ended: its attempts fail, the next one gets a new loop: %s",
                traceback_of(error) or how,
            )
        finally:
            self._end(how)
            with contextlib.suppress(Exception):
                self.loop.close()

    def _blame(self, error: BaseException) -> bool:
        """Fails the attempt that an exit came from; False when it came out of the loop itself."""
        # Not `__traceback__`: that may be a handler's code.
        origin = origin_of(sys.exc_info()[2])
        if origin is None:
            return False
        handle, trace = origin
        run = run_of_handle(handle)
        whose = "of no attempt" if run is None else "of task {}, attempt {}".format(*run.id)
        told = f"{name_of(error)}: {text_of(error)}\n{traceback_of(error)}"
        logger.error("a task or callback %s wanted to end the event loop, which goes on: %s", whose, told)
        if run is not None:
            run.fail(BaseException.with_traceback(error, trace))
        return True

    def _settle(self, run: AsyncRun, answer: Answer) -> None:
        reply = self._runs.pop(run, None)
        if reply is not None:
            reply.set_result(answer)

    def _end(self, how: str) -> None:
        with self._lock:
            self._ended = True
            runs = list(self._runs)
        for run in runs:
            self._settle(run, (None, LoopEndedError(f"the event loop of async handlers ended: {how}")))
