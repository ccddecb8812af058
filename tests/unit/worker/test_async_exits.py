"""What wants to end the event loop of all async handlers ends its own attempt, and hurts none beside it."""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import ctypes
import gc
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import pytest
from beside import PATIENCE, Beside

from atm.service.outcomes import Failed, Succeeded
from atm.states import Reason
from atm.worker.executors.coroutine import CoroutineExecutor

Exit = type[BaseException]
Handler = Callable[[Any, Any], Coroutine[Any, Any, Any]]


@pytest.fixture
def beside() -> Iterator[Beside]:
    made = Beside()
    yield made
    made.close()


def _failed(outcome: Any) -> Failed:
    assert isinstance(outcome, Failed), outcome
    assert outcome.reason is Reason.HANDLER_ERROR, outcome.error
    assert outcome.retryable, "as an exit of a plain handler"
    return outcome


# -- exits, wherever they are -------------------------------------------------


async def _for_ever() -> None:
    await asyncio.sleep(600)


def _raise(error: Exit) -> NoReturn:
    raise error


async def _exits(error: Exit) -> None:
    await asyncio.sleep(0)
    raise error


async def _own(error: Exit) -> None:
    raise error


async def _gathered(error: Exit) -> None:
    await asyncio.gather(_exits(error), _for_ever())


async def _gathered_with_what_comes_out(error: Exit) -> None:
    await asyncio.gather(_exits(error), return_exceptions=True)


async def _waited_for(error: Exit) -> None:
    await asyncio.wait_for(_exits(error), 600)


async def _in_a_group(error: Exit) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_exits(error))
        group.create_task(_for_ever())


async def _awaited(error: Exit) -> None:
    await asyncio.create_task(_exits(error))


async def _shielded(error: Exit) -> None:
    await asyncio.shield(_exits(error))


async def _watched(error: Exit) -> str:
    (done,), _ = await asyncio.wait([asyncio.ensure_future(_exits(error))])
    return str(done.exception())


async def _swallowed(error: Exit) -> str:
    try:
        await asyncio.create_task(_exits(error))
    except BaseException:
        return "swallowed"
    return "not raised"


async def _cancellation_swallowed(error: Exit) -> str:
    started = asyncio.create_task(_exits(error))
    try:
        await _for_ever()
    except asyncio.CancelledError:
        return f"swallowed {started}"
    return "not cancelled"


async def _unnoticed(error: Exit) -> None:
    started = asyncio.create_task(_exits(error))
    await _for_ever()
    del started


async def _of_a_task_of_a_task(error: Exit) -> None:
    async def starts() -> None:
        await asyncio.create_task(_exits(error))

    started = asyncio.create_task(starts())
    await _for_ever()
    del started


async def _called_soon(error: Exit) -> None:
    asyncio.get_running_loop().call_soon(_raise, error)
    await _for_ever()


async def _called_later(error: Exit) -> None:
    asyncio.get_running_loop().call_later(0.001, _raise, error)
    await _for_ever()


async def _called_from_a_thread(error: Exit) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(loop.call_soon_threadsafe, _raise, error)
    await _for_ever()


async def _run_from_a_thread(error: Exit) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(_exits(error), loop).exception())


async def _in_a_thread(error: Exit) -> None:
    await asyncio.to_thread(_raise, error)


async def _callback_of_a_future(error: Exit) -> None:
    future = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda _: _raise(error))
    future.set_result(None)
    await _for_ever()


async def _callback_of_a_task(error: Exit) -> None:
    task = asyncio.create_task(asyncio.sleep(0))
    task.add_done_callback(lambda _: _raise(error))
    await task
    await _for_ever()


async def _reader(error: Exit) -> None:
    ends = os.pipe()
    loop = asyncio.get_running_loop()

    def read() -> None:
        loop.remove_reader(ends[0])
        for end in ends:
            os.close(end)
        _raise(error)

    loop.add_reader(ends[0], read)
    os.write(ends[1], b"x")
    await _for_ever()


async def _numbers(error: Exit) -> AsyncIterator[int]:
    yield 1
    raise error


async def _generator(error: Exit) -> None:
    async for _ in _numbers(error):
        pass


async def _closing_a_generator(error: Exit) -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            _raise(error)

    generator: Any = numbers()
    await anext(generator)
    await generator.aclose()


async def _leaving_a_block(error: Exit) -> None:
    @asynccontextmanager
    async def block() -> AsyncIterator[None]:
        try:
            yield
        finally:
            _raise(error)

    async with block():
        pass


async def _after_a_timeout(error: Exit) -> None:
    try:
        async with asyncio.timeout(0):
            await _for_ever()
    except TimeoutError:
        _raise(error)


async def _cleaning_up_a_task(error: Exit) -> None:
    async def cleans_up() -> None:
        try:
            await _for_ever()
        finally:
            _raise(error)

    started = asyncio.create_task(cleans_up())
    await asyncio.sleep(0)
    started.cancel()
    await asyncio.wait([started])


async def _exception_handler(error: Exit) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: _raise(error))
    try:
        loop.call_soon(_raise, ValueError)
        await _for_ever()
    finally:
        loop.set_exception_handler(None)


async def _two_at_once(error: Exit) -> None:
    started = [asyncio.create_task(_exits(error)) for _ in range(5)]
    await asyncio.gather(*started)


async def _in_a_barrier(error: Exit) -> None:
    async with asyncio.Lock():
        await asyncio.gather(*(_exits(error) for _ in range(3)), return_exceptions=True)
        await _for_ever()


EXITS = [
    _own,
    _gathered,
    _gathered_with_what_comes_out,
    _waited_for,
    _in_a_group,
    _awaited,
    _shielded,
    _watched,
    _swallowed,
    _cancellation_swallowed,
    _unnoticed,
    _of_a_task_of_a_task,
    _called_soon,
    _called_later,
    _called_from_a_thread,
    _run_from_a_thread,
    _in_a_thread,
    _callback_of_a_future,
    _callback_of_a_task,
    _reader,
    _generator,
    _closing_a_generator,
    _leaving_a_block,
    _after_a_timeout,
    _cleaning_up_a_task,
    _exception_handler,
    _two_at_once,
    _in_a_barrier,
]


class _Unreadable(SystemExit):
    """An exit that is not to be looked at."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    @property
    def __traceback__(self) -> NoReturn:
        raise RuntimeError("no trace")

    def __bool__(self) -> bool:
        raise RuntimeError("neither")


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, _Unreadable])
@pytest.mark.parametrize("exits", EXITS, ids=lambda exits: exits.__name__.strip("_"))
def test_an_exit_anywhere_in_an_async_handler_fails_its_attempt_and_no_other(
    beside: Beside, exits: Callable[[Exit], Coroutine[Any, Any, Any]], error: Exit
) -> None:
    failure = _failed(beside.run(lambda_async(lambda: exits(error))))
    assert failure.error.startswith(f"{error.__name__}: ")


def lambda_async(make: Callable[[], Coroutine[Any, Any, Any]]) -> Handler:
    """A handler that does this."""

    async def function(context: Any, payload: Any) -> Any:
        return await make()

    return function


def test_a_command_line_parser_that_exits_fails_its_attempt(
    beside: Beside, capsys: pytest.CaptureFixture[str]
) -> None:
    async def parse() -> None:
        argparse.ArgumentParser().parse_args(["--no-such-option"])

    failure = _failed(beside.run(lambda_async(lambda: asyncio.wait_for(parse(), 600))))
    assert failure.error == "SystemExit: 2"
    assert "parse_args" in failure.traceback


def test_the_traceback_of_an_exit_begins_with_what_exited(beside: Beside) -> None:
    failure = _failed(beside.run(lambda_async(lambda: _called_soon(SystemExit))))
    assert "in _raise" in failure.traceback
    assert "run_forever" not in failure.traceback


def test_a_group_that_holds_an_exit_is_an_error_like_others(beside: Beside) -> None:
    async def raises() -> None:
        raise BaseExceptionGroup("several", [SystemExit(1), KeyboardInterrupt(), ValueError("a")])

    for make in (raises, lambda: asyncio.wait_for(raises(), 600)):
        with_others = Beside()
        failure = _failed(with_others.run(lambda_async(make)))
        assert failure.error.startswith("BaseExceptionGroup: several")
        with_others.close()


# -- ending the loop itself ---------------------------------------------------


async def _stop(loop: asyncio.AbstractEventLoop) -> None:
    loop.stop()
    await _for_ever()


async def _stop_soon(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_soon(loop.stop)
    await _for_ever()


async def _stop_later(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_later(0.001, loop.stop)
    await _for_ever()


async def _stop_in_a_task(loop: asyncio.AbstractEventLoop) -> None:
    async def stops() -> None:
        loop.stop()

    await asyncio.gather(stops(), _for_ever())


async def _stop_in_a_thread(loop: asyncio.AbstractEventLoop) -> None:
    await asyncio.to_thread(loop.stop)
    await _for_ever()


async def _stop_from_a_thread(loop: asyncio.AbstractEventLoop) -> None:
    await asyncio.to_thread(loop.call_soon_threadsafe, loop.stop)
    await _for_ever()


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
    await _for_ever()


async def _end_generators(loop: asyncio.AbstractEventLoop) -> None:
    await loop.shutdown_asyncgens()
    await _for_ever()


async def _end_threads(loop: asyncio.AbstractEventLoop) -> None:
    await loop.shutdown_default_executor()
    await _for_ever()


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
    failure = _failed(beside.run(lambda_async(lambda: ends(asyncio.get_running_loop()))))
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

    assert beside.run(lambda_async(stops)) == Succeeded({"result": "done"})
    assert "something stopped the event loop" in caplog.text


def test_a_handler_that_cancels_all_tasks_cancels_its_own(beside: Beside) -> None:
    async def cancels() -> str:
        own = asyncio.create_task(_for_ever())
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.wait([own])
        return f"cancelled: {own.cancelled()}"

    assert beside.run(lambda_async(cancels)) == Succeeded({"result": "cancelled: True"})


# -- what is left behind ------------------------------------------------------


async def _sleeps_until_cancelled(ended: threading.Event) -> None:
    try:
        await _for_ever()
    finally:
        ended.set()


async def _exits_when_cancelled(ended: threading.Event) -> None:
    try:
        await _for_ever()
    finally:
        ended.set()
        sys.exit(3)


async def _goes_on_once(ended: threading.Event) -> None:
    try:
        await _for_ever()
    except asyncio.CancelledError:
        # For the second cancellation.
        await _sleeps_until_cancelled(ended)


async def _fails_when_cancelled(ended: threading.Event) -> None:
    try:
        await _for_ever()
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

    assert beside.run(lambda_async(leaves)) == Succeeded({"result": "left"})
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

    assert _failed(beside.run(lambda_async(leaves))).error == "ValueError: failed"
    assert ended.wait(PATIENCE)


def test_tasks_that_the_handler_has_cancelled_itself_are_not_told(beside: Beside) -> None:
    kept = []

    async def leaves() -> str:
        kept.append(asyncio.create_task(_sleeps_until_cancelled(threading.Event())))
        await asyncio.sleep(0)
        kept[0].cancel()
        return "left"

    assert beside.run(lambda_async(leaves)) == Succeeded({"result": "left"})
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

    assert beside.run(lambda_async(starts)) == Succeeded({"result": "started"})
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

    assert beside.run(lambda_async(leaves)) == Succeeded({"result": "left"})
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

    assert beside.run(lambda_async(leaves)) == Succeeded({"result": "left"})
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


# -- a loop that has ended ----------------------------------------------------


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
        await _for_ever()

    async def culprit(context: Any, payload: Any) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(breaks, loop)
        await _for_ever()

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
        await _for_ever()

    beside.handle("waits", lambda_async(waits))
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


def test_a_loop_ends_with_its_worker_and_what_still_runs_on_it_is_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    beside = Beside()
    cancelled = threading.Event()
    kept = []

    async def starts() -> None:
        kept.append(asyncio.create_task(_sleeps_until_cancelled(cancelled), context=contextvars.Context()))
        await asyncio.sleep(0)

    beside.handle("starts", lambda_async(starts))
    beside.worker.process(beside.attempt("starts"))
    beside.close()
    assert cancelled.wait(PATIENCE)
