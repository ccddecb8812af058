"""What would end the event loop fails its own attempt; a loop that ends all the same is replaced."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NoReturn

import pytest
from beside import PATIENCE, Beside, doing, for_ever, handlers_error

from atm.service.outcomes import Failed, Succeeded
from atm.states import Reason
from atm.worker.executors.coroutine import CoroutineExecutor


@pytest.fixture
def beside() -> Iterator[Beside]:
    made = Beside()
    yield made
    made.close()


# -- ending it ------------------------------------------------------------------


async def _stop(loop: asyncio.AbstractEventLoop) -> None:
    loop.stop()
    await for_ever()


async def _stop_soon(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_soon(loop.stop)
    await for_ever()


async def _stop_later(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_later(0.001, loop.stop)
    await for_ever()


async def _stop_in_a_task(loop: asyncio.AbstractEventLoop) -> None:
    async def stops() -> None:
        loop.stop()

    await asyncio.gather(stops(), for_ever())


async def _stop_in_a_thread(loop: asyncio.AbstractEventLoop) -> None:
    await asyncio.to_thread(loop.stop)
    await for_ever()


async def _stop_from_a_thread(loop: asyncio.AbstractEventLoop) -> None:
    await asyncio.to_thread(loop.call_soon_threadsafe, loop.stop)
    await for_ever()


async def _stop_and_go_on(loop: asyncio.AbstractEventLoop) -> str:
    loop.stop()
    for _ in range(3):
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            continue
    return "went on"


async def _close(loop: asyncio.AbstractEventLoop) -> None:
    loop.close()
    await for_ever()


async def _end_generators(loop: asyncio.AbstractEventLoop) -> None:
    await loop.shutdown_asyncgens()
    await for_ever()


async def _end_threads(loop: asyncio.AbstractEventLoop) -> None:
    await loop.shutdown_default_executor()
    await for_ever()


@pytest.mark.parametrize(
    "ends",
    [
        _stop,
        _stop_soon,
        _stop_later,
        _stop_in_a_task,
        _stop_in_a_thread,
        _stop_from_a_thread,
        _stop_and_go_on,
        _close,
        _end_generators,
        _end_threads,
    ],
    ids=lambda ends: ends.__name__.strip("_"),
)
def test_a_handler_that_ends_the_loop_fails_and_the_loop_goes_on(
    beside: Beside, ends: Callable[[asyncio.AbstractEventLoop], Coroutine[Any, Any, Any]]
) -> None:
    failure = handlers_error(beside.run(doing(lambda: ends(asyncio.get_running_loop()))))
    assert failure.error.startswith("RuntimeError: the handler called loop.")


def test_a_loop_that_is_stopped_by_nobody_known_goes_on(
    beside: Beside, caplog: pytest.LogCaptureFixture
) -> None:
    """A thread of an executor has no context: what it does belongs to no attempt."""

    async def stops() -> str:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, lambda: loop.call_soon_threadsafe(loop.stop))
        await asyncio.sleep(0.01)
        return "done"

    assert beside.run(doing(stops)) == Succeeded({"result": "done"})
    assert "something stopped the event loop" in caplog.text


def test_a_handler_that_cancels_all_tasks_cancels_its_own(beside: Beside) -> None:
    async def cancels() -> str:
        own = asyncio.create_task(for_ever())
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.wait([own])
        return f"cancelled: {own.cancelled()}"

    assert beside.run(doing(cancels)) == Succeeded({"result": "cancelled: True"})


# -- one that has ended ---------------------------------------------------------


def _deaf(loop: Any) -> None:
    def select(timeout: float | None) -> NoReturn:
        raise OSError(9, "Bad file descriptor")

    loop._selector.select = select


def _struck(loop: Any) -> None:
    """An exit comes out of the loop's own code, as an asynchronous exception does."""
    thread = ctypes.c_ulong(threading.get_ident())

    def select(timeout: float | None) -> list[Any]:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(SystemExit))
        for _ in range(10):
            pass
        return []

    loop._selector.select = select


@pytest.mark.parametrize("breaks", [_deaf, _struck], ids=["deaf", "struck"])
def test_a_loop_that_has_ended_is_followed_by_a_new_one_and_its_attempts_are_tried_again(
    breaks: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    beside = Beside()
    loops: list[Any] = []
    begun = threading.Event()

    async def waits(context: Any, payload: Any) -> None:
        loops.append(asyncio.get_running_loop())
        begun.set()
        await for_ever()

    async def culprit(context: Any, payload: Any) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(breaks, loop)
        await for_ever()

    beside.handle("waits", waits)
    beside.handle("breaks", culprit)
    attempts = [beside.attempt("waits"), beside.attempt("breaks")]
    threads = [threading.Thread(target=beside.worker.process, args=(attempt,)) for attempt in attempts]
    threads[0].start()
    assert begun.wait(PATIENCE)
    executor = beside.worker._executors["async"]
    assert isinstance(executor, CoroutineExecutor)
    ended = executor.thread
    assert ended is not None
    threads[1].start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "its attempt ended"
    for attempt in attempts:
        failure = beside.outcome(attempt)
        assert isinstance(failure, Failed)
        assert (failure.reason, failure.retryable) == (Reason.INTERNAL_ERROR, True)
        assert "the event loop of async handlers ended" in failure.error
    assert "the event loop of async handlers ended" in caplog.text
    beside.check_those_after()
    beside.close()
    ended._thread.join(PATIENCE)
    assert loops[0].is_closed()


def test_a_loop_whose_thread_has_died_is_followed_by_a_new_one_and_its_attempts_end(beside: Beside) -> None:
    begun = threading.Event()

    async def waits() -> None:
        begun.set()
        await for_ever()

    beside.handle("waits", doing(waits))
    lost = beside.attempt("waits")
    waiting = threading.Thread(target=beside.worker.process, args=(lost,))
    waiting.start()
    assert begun.wait(PATIENCE)
    executor = beside.worker._executors["async"]
    assert isinstance(executor, CoroutineExecutor)
    thread = executor.thread
    assert thread is not None
    # One that does not live, as after a fork.
    thread._thread = threading.Thread()
    assert not thread.lives()
    waiting.join(PATIENCE)
    failure = beside.outcome(lost)
    assert isinstance(failure, Failed)
    assert failure.reason is Reason.INTERNAL_ERROR
    beside.check_those_after()
    assert executor.thread is not thread
    thread.close()


def test_a_loop_that_somebody_closed_is_followed_by_a_new_one(beside: Beside) -> None:
    beside.check_those_after()
    executor = beside.worker._executors["async"]
    assert isinstance(executor, CoroutineExecutor)
    thread = executor.thread
    assert thread is not None
    thread.loop._check_closed = _closed  # type: ignore[attr-defined]
    beside.check_those_after()
    assert executor.thread is not thread
    del thread.loop._check_closed  # type: ignore[attr-defined]
    thread.close()


def _closed() -> NoReturn:
    raise RuntimeError("Event loop is closed")
