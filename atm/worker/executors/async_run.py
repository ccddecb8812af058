"""One attempt of an async handler on the loop: its task, those that it started, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Callable
from contextvars import ContextVar
from types import FrameType
from typing import Any
from weakref import WeakSet

from atm.errors import TaskInterrupted
from atm.worker.attempt import Attempt
from atm.worker.interruption import Interruption, Stopped
from atm.worker.texts import name_of, text_of
from atm.worker.whereabouts import frame_of_task

logger = logging.getLogger(__name__)

#: Between two cancellations of a coroutine that goes on.
_REPEAT_SECONDS = 1.0
#: How often a task that its handler left running is cancelled before it is let be.
_CANCELLATIONS = 10
#: As many tasks are named in one line.
_NAMED = 5

#: The attempt that a callback, a task or a thread belongs to.
RUN: ContextVar[AsyncRun | None] = ContextVar("atm_run", default=None)
#: What came out of the handler, and the error instead of it, if there is one.
Answer = tuple[Any, BaseException | None]


class AsyncRun:
    """An attempt's handler as a program of its own, as under `asyncio.run`, on a loop that it shares.

    Whatever it starts, and whatever those start, has `RUN` in its context.
    An exit of any of them fails the attempt and cancels the others; when the
    handler ends, what still runs is cancelled.
    """

    def __init__(self, attempt: Attempt, payload: Any) -> None:
        self.id = attempt.id
        #: What its callbacks run in: a copy of the calling thread's context.
        self.context = contextvars.copy_context()
        self.context.run(RUN.set, self)
        #: None once the handler has ended: a connection that outlives it may hold this object.
        self.attempt: Attempt | None = attempt
        self._payload = payload
        self._loop: asyncio.AbstractEventLoop
        self._main: asyncio.Task[Any] | None = None
        self._tasks: WeakSet[asyncio.Task[Any]] | None = None
        self._exit: BaseException | None = None
        self._next_at = 0.0
        self._pressed = False

    # -- in the loop's thread -------------------------------------------------

    def begin(self, loop: asyncio.AbstractEventLoop, settle: Callable[[AsyncRun, Answer], None]) -> None:
        """Starts the handler. `settle` is called, once, when it has ended."""
        assert self.attempt is not None, "it has not ended"
        self._loop = loop
        self._main = AttemptTask(self._call(self.attempt, self._payload), loop=loop)
        self._main.add_done_callback(lambda main: settle(self, self._end(main)))
        self.attempt.handle = self

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """A task was started in its context: part of it, if its handler has not ended."""
        if self.attempt is not None:
            if self._tasks is None:
                self._tasks = WeakSet()
            self._tasks.add(task)

    async def _call(self, attempt: Attempt, payload: Any) -> Any:
        try:
            return await attempt.spec.function(attempt.context, payload)
        except (SystemExit, KeyboardInterrupt) as error:
            # Out of a task either would end the loop.
            if self._exit is None:
                self._exit = error
            return None

    def _end(self, main: asyncio.Task[Any]) -> Answer:
        attempt = self.attempt
        assert attempt is not None, "it ends once"
        attempt.handle = None
        try:
            answer = self._answer(main, attempt)
            left = [task for task in self._tasks or () if not task.done()]
            if left:
                self._tell_left(attempt, left, returned=answer[1] is None)
                self._cancel(_CANCELLATIONS)
        except BaseException as defect:  # noqa: BLE001 - a thread waits for the answer
            answer = None, defect
        self.attempt = self._payload = self._main = self._exit = None
        return answer

    def _answer(self, main: asyncio.Task[Any], attempt: Attempt) -> Answer:
        interrupted = attempt.interruption is not None
        error = None if main.cancelled() else main.exception()
        if self._exit is not None:
            error = self._exit
        elif main.cancelled():
            if interrupted:
                return None, Stopped("its coroutine was cancelled")
            error = RuntimeError("the handler cancelled itself: a CancelledError came out of it")
        if error is None:
            if interrupted and attempt.noticed and not self._pressed:
                return None, Stopped("the handler noticed and returned")
            return main.result(), None
        attempt.raised = error
        if interrupted and (self._pressed or issubclass(type(error), TaskInterrupted)):
            how = "its coroutine was cancelled" if self._pressed else "the handler noticed and stopped"
            return None, Stopped(f"{how}; it then raised {name_of(error)}: {text_of(error)}")
        return None, error

    def _tell_left(self, attempt: Attempt, left: list[asyncio.Task[Any]], *, returned: bool) -> None:
        """What a handler that returned has left running is said; one that failed takes it along unsaid."""
        # Those that the handler has cancelled are on their way.
        names = [described(task) for task in left if not task.cancelling()] if returned else []
        if not names:
            return
        some = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
        said = f"its handler returned and left tasks running, which are cancelled: {some}"
        attempt.log.line(f"WARNING: {said}")
        logger.warning("task %s, attempt %d: %s", *self.id, said)

    def _cancel(self, times: int) -> None:
        """Cancels all that runs, and again each second what goes on."""
        tasks = [*(self._tasks or ()), *([self._main] if self._main else [])]
        left = [task for task in tasks if not task.done()]
        for task in left:
            task.cancel()
        if left and times > 1:
            self._loop.call_later(_REPEAT_SECONDS, self._cancel, times - 1, context=self.context)
        elif left:
            names = ", ".join(described(task) for task in left[:_NAMED])
            logger.warning("task %s, attempt %d: its tasks go on although cancelled: %s", *self.id, names)

    # -- from any thread ------------------------------------------------------

    def press(self, _interruption: Interruption, elapsed: float) -> None:
        """Cancels the handler at once, and again each second. See `Handle`."""
        if elapsed >= self._next_at:
            self._next_at = elapsed + _REPEAT_SECONDS
            self._call_soon(self._press)

    def frame(self) -> FrameType | None:
        """Where its handler is. See `Located`."""
        main = self._main
        return None if main is None else frame_of_task(main)

    def _press(self) -> None:
        if self._main is not None and not self._main.done():
            self._pressed = True
            self._main.cancel()

    def fail(self, error: BaseException) -> None:
        """The attempt fails with this error, whatever its handler makes of the cancellation."""
        self._call_soon(self._fail, error)

    def _call_soon(self, callback: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the attempt with it
            self._loop.call_soon_threadsafe(callback, *args, context=self.context)

    def _fail(self, error: BaseException) -> None:
        if self.attempt is not None and self._exit is None:
            self._exit = error
            self._cancel(_CANCELLATIONS)


class AttemptTask(asyncio.Task[Any]):
    """A task that belongs to one attempt (`run`), or to none: that of the context in which it was started."""

    def __init__(self, coro: Any, **options: Any) -> None:
        # Before the task is: a factory may start it at once.
        context = options.get("context")
        self.run: AsyncRun | None = RUN.get() if context is None else context.get(RUN)
        super().__init__(coro, **options)

    def cancel(self, msg: Any | None = None) -> bool:
        """See asyncio; False where another attempt wants it: `asyncio.all_tasks` gives it to each."""
        if self.run is not None and RUN.get() not in (None, self.run):
            return False
        return super().cancel(msg)


def described(task: asyncio.Task[Any]) -> str:
    """A task in words: its name, its coroutine and where that is. Raises nothing."""
    try:
        coroutine: Any = task.get_coro()
        code = coroutine.cr_code
        return f"{task.get_name()} ({coroutine.__qualname__}, {code.co_filename}:{code.co_firstlineno})"
    except BaseException:  # noqa: BLE001 - what is no coroutine of Python's own may have anything
        return task.get_name()
