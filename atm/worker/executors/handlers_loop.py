"""The event loop that all async handlers of a process share: none of them can end it for the others."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import selectors
from collections.abc import AsyncGenerator, Coroutine
from types import FrameType, TracebackType
from typing import Any

from atm.worker.executors.async_run import RUN, AsyncRun, AttemptTask
from atm.worker.texts import traceback_of

logger = logging.getLogger(__name__)

#: The function of asyncio in which every callback and every step of a task runs.
_RUNS_CALLBACK = asyncio.Handle._run.__code__  # noqa: SLF001


class HandlersLoop(asyncio.SelectorEventLoop):
    """A loop whose tasks know the attempt that started them, and which an attempt cannot end.

    What would end it, called by an attempt, fails that attempt. Errors that
    nobody waits for are logged with the attempt that they come from.
    """

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        super().__init__(selector)
        self.set_task_factory(_new_task)  # type: ignore[arg-type]

    def stop(self) -> None:
        """See asyncio; refused to attempts."""
        if not _refused("loop.stop()"):
            super().stop()

    def close(self) -> None:
        """See asyncio; refused to attempts."""
        if not _refused("loop.close()"):
            super().close()

    async def shutdown_asyncgens(self) -> None:
        """See asyncio; refused to attempts."""
        if not _refused("loop.shutdown_asyncgens()"):
            await super().shutdown_asyncgens()

    async def shutdown_default_executor(self, *args: Any, **options: Any) -> None:
        """See asyncio; refused to attempts."""
        if not _refused("loop.shutdown_default_executor()"):
            await super().shutdown_default_executor(*args, **options)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """See asyncio."""
        run = _run_of(context)
        if run is None:
            super().default_exception_handler(context)
            return
        error = context.get("exception")
        if issubclass(type(error), SystemExit | KeyboardInterrupt):
            return  # it came out of the loop, where it was told
        trace = "" if error is None else f"\n{traceback_of(error)}"
        logger.error("task %s, attempt %d: %s%s", *run.id, context.get("message"), trace)

    def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        # It is collected whenever that happens: not as part of the attempt that runs just then.
        hook = super()._asyncgen_finalizer_hook  # type: ignore[misc]
        contextvars.Context().run(hook, agen)


def _new_task(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> AttemptTask:
    task = AttemptTask(coro, loop=loop, **options)
    if task.run is not None:
        task.run.adopt(task)
    return task


def _refused(call: str) -> bool:
    run = RUN.get()
    if run is None:
        return False
    run.fail(RuntimeError(f"the handler called {call}; it shares the event loop with others"))
    return True


def _run_of(context: dict[str, Any]) -> AsyncRun | None:
    """The attempt that an error comes from, by what asyncio tells of it."""
    task = context.get("task", context.get("future"))
    if isinstance(task, AttemptTask):
        return task.run
    handle = context.get("handle")
    return RUN.get() if handle is None else run_of_handle(handle)


def run_of_handle(handle: asyncio.Handle) -> AsyncRun | None:
    """The attempt that a callback belongs to."""
    context: contextvars.Context = handle._context  # type: ignore[attr-defined]  # noqa: SLF001
    return context.get(RUN)


def handle_of(frame: FrameType) -> asyncio.Handle | None:
    """The callback, or step of a task, that this frame runs, where it is asyncio's frame for that."""
    return frame.f_locals["self"] if frame.f_code is _RUNS_CALLBACK else None


def origin_of(trace: TracebackType | None) -> tuple[asyncio.Handle, TracebackType | None] | None:
    """The callback that an exception came out of, and the traceback within it; None: the loop raised it."""
    found = None
    while trace is not None:
        handle = handle_of(trace.tb_frame)
        trace = trace.tb_next
        if handle is not None:
            found = handle, trace
    return found
