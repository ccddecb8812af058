"""An exit anywhere in an async handler fails its attempt, and hurts none beside it."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import pytest
from beside import Beside, doing, for_ever, handlers_error

Exit = type[BaseException]


@pytest.fixture
def beside() -> Iterator[Beside]:
    made = Beside()
    yield made
    made.close()


def _raise(error: Exit) -> NoReturn:
    raise error


async def _exits(error: Exit) -> None:
    await asyncio.sleep(0)
    raise error


async def _own(error: Exit) -> None:
    raise error


async def _gathered(error: Exit) -> None:
    await asyncio.gather(_exits(error), for_ever())


async def _gathered_with_what_comes_out(error: Exit) -> None:
    await asyncio.gather(_exits(error), return_exceptions=True)


async def _waited_for(error: Exit) -> None:
    await asyncio.wait_for(_exits(error), 600)


async def _in_a_group(error: Exit) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_exits(error))
        group.create_task(for_ever())


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
        await for_ever()
    except asyncio.CancelledError:
        return f"swallowed {started}"
    return "not cancelled"


async def _unnoticed(error: Exit) -> None:
    started = asyncio.create_task(_exits(error))
    await for_ever()
    del started


async def _of_a_task_of_a_task(error: Exit) -> None:
    async def starts() -> None:
        await asyncio.create_task(_exits(error))

    started = asyncio.create_task(starts())
    await for_ever()
    del started


async def _called_soon(error: Exit) -> None:
    asyncio.get_running_loop().call_soon(_raise, error)
    await for_ever()


async def _called_later(error: Exit) -> None:
    asyncio.get_running_loop().call_later(0.001, _raise, error)
    await for_ever()


async def _called_from_a_thread(error: Exit) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(loop.call_soon_threadsafe, _raise, error)
    await for_ever()


async def _run_from_a_thread(error: Exit) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(_exits(error), loop).exception())


async def _in_a_thread(error: Exit) -> None:
    await asyncio.to_thread(_raise, error)


async def _callback_of_a_future(error: Exit) -> None:
    future = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda _: _raise(error))
    future.set_result(None)
    await for_ever()


async def _callback_of_a_task(error: Exit) -> None:
    task = asyncio.create_task(asyncio.sleep(0))
    task.add_done_callback(lambda _: _raise(error))
    await task
    await for_ever()


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
    await for_ever()


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
            await for_ever()
    except TimeoutError:
        _raise(error)


async def _cleaning_up_a_task(error: Exit) -> None:
    async def cleans_up() -> None:
        try:
            await for_ever()
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
        await for_ever()
    finally:
        loop.set_exception_handler(None)


async def _two_at_once(error: Exit) -> None:
    started = [asyncio.create_task(_exits(error)) for _ in range(5)]
    await asyncio.gather(*started)


async def _in_a_barrier(error: Exit) -> None:
    async with asyncio.Lock():
        await asyncio.gather(*(_exits(error) for _ in range(3)), return_exceptions=True)
        await for_ever()


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
    failure = handlers_error(beside.run(doing(lambda: exits(error))))
    assert failure.error.startswith(f"{error.__name__}: ")


def test_a_command_line_parser_that_exits_fails_its_attempt(
    beside: Beside, capsys: pytest.CaptureFixture[str]
) -> None:
    async def parse() -> None:
        argparse.ArgumentParser().parse_args(["--no-such-option"])

    failure = handlers_error(beside.run(doing(lambda: asyncio.wait_for(parse(), 600))))
    assert failure.error == "SystemExit: 2"
    assert "parse_args" in failure.traceback


def test_the_traceback_of_an_exit_begins_with_what_exited(beside: Beside) -> None:
    failure = handlers_error(beside.run(doing(lambda: _called_soon(SystemExit))))
    assert "in _raise" in failure.traceback
    assert "run_forever" not in failure.traceback


def test_a_group_that_holds_an_exit_is_an_error_like_others(beside: Beside) -> None:
    async def raises() -> None:
        raise BaseExceptionGroup("several", [SystemExit(1), KeyboardInterrupt(), ValueError("a")])

    for make in (raises, lambda: asyncio.wait_for(raises(), 600)):
        with_others = Beside()
        failure = handlers_error(with_others.run(doing(make)))
        assert failure.error.startswith("BaseExceptionGroup: several")
        with_others.close()
