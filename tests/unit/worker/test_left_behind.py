"""What an async handler leaves behind is cancelled and told, and hurts nobody."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
from beside import PATIENCE, Beside, doing, for_ever, handlers_error

from atm.service.outcomes import Succeeded

Exit = type[BaseException]


@pytest.fixture
def beside() -> Iterator[Beside]:
    made = Beside()
    yield made
    made.close()


async def _sleeps_until_cancelled(ended: threading.Event) -> None:
    try:
        await for_ever()
    finally:
        ended.set()


async def _exits_when_cancelled(ended: threading.Event) -> None:
    try:
        await for_ever()
    finally:
        ended.set()
        sys.exit(3)


async def _goes_on_once(ended: threading.Event) -> None:
    try:
        await for_ever()
    except asyncio.CancelledError:
        # For the second cancellation.
        await _sleeps_until_cancelled(ended)


async def _fails_when_cancelled(ended: threading.Event) -> None:
    try:
        await for_ever()
    finally:
        ended.set()
        raise ValueError("while cleaning up")


@pytest.mark.parametrize(
    "left",
    [_sleeps_until_cancelled, _exits_when_cancelled, _goes_on_once, _fails_when_cancelled],
    ids=lambda left: left.__name__.strip("_"),
)
def test_a_task_that_a_handler_left_running_is_cancelled_and_told(
    beside: Beside,
    left: Callable[[threading.Event], Coroutine[Any, Any, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended = threading.Event()
    kept = []

    async def leaves() -> str:
        kept.append(asyncio.create_task(left(ended)))
        await asyncio.sleep(0)
        return "left"

    assert beside.run(doing(leaves)) == Succeeded({"result": "left"})
    assert ended.wait(PATIENCE)
    told = [line.message for report in beside.reports("culprit") for line in report.lines]
    assert len(told) == 1
    assert told[0].startswith("WARNING: its handler returned and left tasks running, which are cancelled: ")
    assert f"({left.__name__}, {__file__}:" in told[0]
    assert any(left.__name__ in message for message in caplog.messages)
    beside.check_those_after()


def test_what_a_failed_attempt_left_running_is_cancelled_too(beside: Beside) -> None:
    ended = threading.Event()
    kept = []

    async def leaves() -> None:
        kept.append(asyncio.create_task(_sleeps_until_cancelled(ended)))
        await asyncio.sleep(0)
        raise ValueError("failed")

    assert handlers_error(beside.run(doing(leaves))).error == "ValueError: failed"
    assert ended.wait(PATIENCE)


def test_tasks_that_the_handler_has_cancelled_itself_are_not_told(beside: Beside) -> None:
    kept = []

    async def leaves() -> str:
        kept.append(asyncio.create_task(_sleeps_until_cancelled(threading.Event())))
        await asyncio.sleep(0)
        kept[0].cancel()
        return "left"

    assert beside.run(doing(leaves)) == Succeeded({"result": "left"})
    assert not beside.reports("culprit")[0].lines


def test_a_task_with_a_context_of_its_own_outlives_its_attempt(beside: Beside) -> None:
    """For clients that several attempts share."""
    go_on = threading.Event()
    went_on = threading.Event()
    kept = []

    async def shared() -> None:
        while not go_on.is_set():
            await asyncio.sleep(0.001)
        went_on.set()

    async def starts() -> str:
        kept.append(asyncio.create_task(shared(), context=contextvars.Context()))
        return "started"

    assert beside.run(doing(starts)) == Succeeded({"result": "started"})
    go_on.set()
    assert went_on.wait(PATIENCE)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_callback_that_a_handler_left_and_that_exits_hurts_nobody(
    beside: Beside, error: Exit, caplog: pytest.LogCaptureFixture
) -> None:
    called = threading.Event()

    def exits() -> None:
        called.set()
        raise error

    async def leaves() -> str:
        asyncio.get_running_loop().call_later(0.05, exits)
        return "left"

    assert beside.run(doing(leaves)) == Succeeded({"result": "left"})
    assert called.wait(PATIENCE)
    beside.check_those_after()
    assert f"wanted to end the event loop, which goes on: {error.__name__}" in caplog.text


def test_a_generator_that_exits_when_it_is_collected_hurts_nobody(beside: Beside) -> None:
    finalised = threading.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            finalised.set()
            sys.exit(4)

    async def leaves() -> str:
        await anext(numbers())
        gc.collect()
        await asyncio.sleep(0.001)
        return "left"

    assert beside.run(doing(leaves)) == Succeeded({"result": "left"})
    assert finalised.wait(PATIENCE)
    beside.check_those_after()


def test_an_error_that_nobody_waits_for_is_logged_with_its_attempt(
    beside: Beside, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise ValueError("in a callback")

    seen: list[str] = []

    async def leaves(context: Any, payload: Any) -> str:
        seen.append(context.task_id)
        asyncio.get_running_loop().call_soon(fails)
        await asyncio.sleep(0.001)
        return "done"

    assert beside.run(leaves) == Succeeded({"result": "done"})
    (message,) = [message for message in caplog.messages if "in a callback" in message]
    assert message.startswith(f"task {seen[0]}, attempt 1: ")


def test_a_loop_ends_with_its_worker_and_what_still_runs_on_it_is_cancelled() -> None:
    beside = Beside()
    cancelled = threading.Event()
    kept = []

    async def starts() -> None:
        kept.append(asyncio.create_task(_sleeps_until_cancelled(cancelled), context=contextvars.Context()))
        await asyncio.sleep(0)

    beside.handle("starts", doing(starts))
    beside.worker.process(beside.attempt("starts"))
    beside.close()
    assert cancelled.wait(PATIENCE)
