"""Where in its code an attempt is."""

from __future__ import annotations

import asyncio
import sys
from types import FrameType
from typing import Any, Protocol, runtime_checkable

from atm.worker.attempt import Attempt


@runtime_checkable
class Located(Protocol):
    """A handle of a handler that does not run in the attempt's own thread."""

    def frame(self) -> FrameType | None:
        """The innermost frame of the handler; None: it is not known."""


def where(attempt: Attempt) -> str:
    """The innermost frame of the attempt's handler, or of the thread that waits for it, in words."""
    frame = attempt.handle.frame() if isinstance(attempt.handle, Located) else None
    if frame is None:
        frame = sys._current_frames().get(attempt.thread_id)  # noqa: SLF001
    if frame is None:
        return "nowhere: its thread has ended"
    code = frame.f_code
    return f"{code.co_filename}:{frame.f_lineno} in {code.co_name}"


def frame_of_task(task: asyncio.Task[Any]) -> FrameType | None:
    """The innermost frame of a coroutine that waits or runs."""
    frame: FrameType | None = None
    awaited: Any = task.get_coro()
    # What it awaits, and what that awaits; at the end is something of the loop, which has no frame.
    while (inner := getattr(awaited, "cr_frame", None)) is not None:
        frame, awaited = inner, getattr(awaited, "cr_await", None)
    return frame
