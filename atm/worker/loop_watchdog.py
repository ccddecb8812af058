"""Says when one async handler keeps the others waiting, because it blocks the event loop."""

from __future__ import annotations

import logging
import sysconfig
import time
from pathlib import Path
from types import FrameType

import atm
from atm.worker.executors.async_run import AsyncRun
from atm.worker.executors.coroutine import CoroutineExecutor, LoopThread
from atm.worker.executors.handlers_loop import handle_of, run_of_handle

logger = logging.getLogger(__name__)

#: A loop that has not answered for so long is held. It is said again each time that this has
#: become _TIMES as long, and at least every _MOST_SECONDS.
HELD_SECONDS = 1.0
_TIMES = 5
_MOST_SECONDS = 300.0
#: Code that users have not written.
_LIBRARIES = (
    *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")},
    str(Path(atm.__file__).parent),
)


class _Question:
    """Something for the loop to answer, when it comes to it."""

    def __init__(self, thread: LoopThread) -> None:
        self.thread = thread
        self.asked_at = time.monotonic()
        self.answered_at: float | None = None
        #: How old it is when it is said next that the loop is held.
        self.say_after = HELD_SECONDS
        self.is_said = False

    def answer(self) -> None:
        self.answered_at = time.monotonic()


class LoopWatchdog:
    """A role that asks the event loop of async handlers for a sign of life.

    Where none comes it names the attempt whose code runs, and where that is,
    in the worker's log and, once, in the task's history. It notices, too, when
    the loop's thread has died.
    """

    interval = 0.5

    def __init__(self, executor: CoroutineExecutor) -> None:
        self._executor = executor
        self._question: _Question | None = None

    def run_once(self) -> bool:
        """One look."""
        thread, question = self._executor.thread, self._question
        if thread is None or not thread.lives():
            self._question = None
        elif question is None or question.thread is not thread:
            self._ask(thread)
        elif question.answered_at is not None:
            if question.is_said:
                held = question.answered_at - question.asked_at
                logger.warning("the event loop of async handlers is free again, after %.1f s", held)
            self._ask(thread)
        elif (age := time.monotonic() - question.asked_at) >= question.say_after:
            question.say_after = min(age * _TIMES, age + _MOST_SECONDS)
            _say(question, age)
        return False

    def _ask(self, thread: LoopThread) -> None:
        self._question = _Question(thread)
        thread.call(self._question.answer)


def _say(question: _Question, age: float) -> None:
    frame = question.thread.frame()
    run, where = _holder(frame)
    if where is None:
        return  # just now it came free
    said = f"the event loop of async handlers is held, since {age:.1f} s or longer, at {where}"
    attempt = None if run is None else run.attempt
    if run is not None and attempt is not None:
        logger.warning(
            "%s, by task %s (%s), attempt %d; attempts on it: %d",
            *(said, run.id.task_id, attempt.spec.task_type, run.id.number, question.thread.count),
        )
        if not question.is_said:
            attempt.log.line(
                f"WARNING: this handler holds up all async handlers, at {where}: await, or use a thread"
            )
    else:
        whose = "of no attempt" if run is None else "that task {}, attempt {}, left behind".format(*run.id)
        logger.warning("%s, by something %s; attempts on it: %d", said, whose, question.thread.count)
    question.is_said = True


def _holder(frame: FrameType | None) -> tuple[AsyncRun | None, str | None]:
    """Whose code runs in the loop's thread, and where; without a place: the loop's own."""
    innermost, user = frame, None
    while frame is not None:
        handle = handle_of(frame)
        if handle is not None:
            assert innermost is not None
            where = _place(user or innermost)
            if user is not innermost and user is not None:
                where += f" (in {_place(innermost)})"
            return run_of_handle(handle), where
        if user is None and not frame.f_code.co_filename.startswith(_LIBRARIES):
            user = frame
        frame = frame.f_back
    return None, None


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}, {frame.f_code.co_qualname}"
