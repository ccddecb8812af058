"""A handler that blocks the event loop of the others is named, with the place where it does, and seldom."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from beside import PATIENCE, Beside
from fake_worker import Clock

from atm.worker import loop_watchdog as module
from atm.worker.attempt import Attempt
from atm.worker.executors.coroutine import CoroutineExecutor
from atm.worker.loop_watchdog import LoopWatchdog


class Held:
    """A worker whose loop one of its tasks can hold, by the clock of the test."""

    def __init__(self, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        self.clock = clock
        self.beside = Beside()
        executor = self.beside.worker._executors["async"]
        assert isinstance(executor, CoroutineExecutor)
        self.executor = executor
        self.watchdog = LoopWatchdog(executor)
        self._caplog = caplog
        self.go_on = threading.Event()
        self.holds = threading.Event()
        self.attempt: Attempt | None = None
        self._thread: threading.Thread | None = None

    def hold(self, function: Callable[..., Any]) -> None:
        """Has the loop answer once, then a handler hold it."""
        self.answered()
        self.beside.handle("holds", function)
        self.attempt = self.beside.attempt("holds")
        self._thread = threading.Thread(target=self.beside.worker.process, args=(self.attempt,))
        self._thread.start()
        assert self.holds.wait(PATIENCE)
        # What was asked before it was held is answered; this is asked now.
        self.watchdog.run_once()

    def block(self) -> None:
        """What holds the loop."""
        self.holds.set()
        assert self.go_on.wait(PATIENCE)

    def release(self) -> None:
        """The handler goes on and ends."""
        self.go_on.set()
        assert self._thread is not None
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def answered(self) -> None:
        """Has the watchdog ask, and the loop answer."""
        self.beside.check_those_after()
        self.watchdog.run_once()
        # Its answer comes before the end of a task that is started after the question.
        self.beside.check_those_after()

    def after(self, seconds: float) -> list[str]:
        """What the watchdog says when it looks so much later."""
        self.clock.now += seconds
        self._caplog.clear()
        self.watchdog.run_once()
        return [record.getMessage() for record in self._caplog.records if record.levelno == logging.WARNING]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Held]:
    made = Held(Clock.of(monkeypatch, module), caplog)
    yield made
    made.go_on.set()
    made.beside.close()


def test_a_handler_that_blocks_the_loop_is_named_with_its_task_and_the_place(held: Held) -> None:
    async def blocks(context: Any, payload: Any) -> None:
        held.block()

    held.hold(blocks)
    assert held.after(0.5) == []
    (said,) = held.after(0.6)
    assert held.attempt is not None
    assert f"by task {held.attempt.id.task_id} (holds), attempt 1" in said
    assert f"{__file__}:" in said
    assert "Held.block" in said, "the innermost frame of the user's code"
    assert "threading.py:" in said, "and where that is"
    held.release()
    (end,) = [end for end in held.beside.worker.ends.items if end.task_id == held.attempt.id.task_id]
    (line,) = end.report.lines
    assert line.message.startswith("WARNING: this handler holds up all async handlers, at ")


def test_it_is_said_seldom_and_once_when_the_loop_is_free_again(held: Held) -> None:
    async def blocks(context: Any, payload: Any) -> None:
        held.block()

    held.hold(blocks)
    said = [held.after(1.0) for _ in range(1000)]
    times = [second for second, lines in enumerate(said, 1) if lines]
    assert times == [1, 5, 25, 125, 425, 725]
    held.release()
    held.beside.check_those_after()
    assert held.after(1.0) == ["the event loop of async handlers is free again, after 1000.0 s"]
    held.answered()
    assert held.after(1.0) == []


def test_a_callback_and_a_sub_task_that_block_are_those_of_their_attempt(held: Held) -> None:
    async def calls(context: Any, payload: Any) -> None:
        asyncio.get_running_loop().call_soon(held.block)
        await asyncio.sleep(0.001)

    held.hold(calls)
    (said,) = held.after(2.0)
    assert held.attempt is not None
    assert held.attempt.id.task_id in said
    held.release()


def test_what_an_attempt_left_behind_is_told_apart(held: Held) -> None:
    async def leaves(context: Any, payload: Any) -> None:
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, held.block)

    held.hold(leaves)
    assert held.attempt is not None
    (said,) = held.after(2.0)
    assert f"by something that task {held.attempt.id.task_id}, attempt 1, left behind" in said
    held.release()


def test_what_belongs_to_no_attempt_is_told_too(held: Held) -> None:
    async def calls(context: Any, payload: Any) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, lambda: loop.call_soon_threadsafe(held.block))
        await asyncio.sleep(0.001)

    held.hold(calls)
    (said,) = held.after(2.0)
    assert "by something of no attempt" in said
    held.release()


def test_a_loop_that_answers_is_not_spoken_of(held: Held) -> None:
    held.watchdog.run_once()  # there is none yet
    for _ in range(5):
        held.answered()
        assert held.after(60.0) == []


def test_a_loop_that_was_not_asked_yet_when_it_ended_is_forgotten(held: Held) -> None:
    held.answered()
    assert held.executor.thread is not None
    held.executor.thread.close()
    held.executor.thread._thread.join(PATIENCE)
    assert held.after(60.0) == []
    # The next one is a new one.
    held.answered()
    assert held.after(60.0) == []
