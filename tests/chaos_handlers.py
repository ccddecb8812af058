"""Handlers for the fault suite. Each keeps a journal of its own, outside ATM's tables."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from atm import Context, Retry, handler

_RETRY = Retry("FIXED", delay=0.1)
#: Faults cost attempts; a task of good handlers must never run out of them.
_PLENTY = 100


def _write(context: Context, what: str) -> None:
    line = f"{time.monotonic_ns()} {what} {context.task_id} {context.attempt}\n"
    # One small write to a file opened for appending is never torn.
    fd = os.open(os.path.join(os.environ["SCRATCH"], "journal"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)  # noqa: PTH118
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


@contextmanager
def _journal(context: Context) -> Iterator[None]:
    _write(context, "start")
    try:
        yield
    finally:
        _write(context, "end")


@handler("chaos_quick", max_retry=_PLENTY, retry=_RETRY)
def quick(context: Context, payload: dict[str, str]) -> dict[str, int]:
    """Returns the attempt that did it."""
    with _journal(context):
        return {"attempt": context.attempt}


@handler("chaos_slow", max_retry=_PLENTY, retry=_RETRY)
def slow(context: Context, payload: dict[str, str]) -> dict[str, int]:
    """Works for `seconds`."""
    with _journal(context):
        end = time.monotonic() + float(payload.get("seconds", "0.5"))
        while time.monotonic() < end:
            time.sleep(0.01)
        context.logger.info("worked")
        return {"attempt": context.attempt}


@handler("chaos_async", max_retry=_PLENTY, retry=_RETRY)
async def async_slow(context: Context, payload: dict[str, str]) -> dict[str, int]:
    """Sleeps for `seconds`."""
    with _journal(context):
        await asyncio.sleep(float(payload.get("seconds", "0.3")))
        return {"attempt": context.attempt}


@handler("chaos_flaky", max_retry=_PLENTY, retry=_RETRY)
def flaky(context: Context, payload: dict[str, str]) -> dict[str, int]:
    """Fails the first time."""
    with _journal(context):
        if context.retry_count == 0:
            raise ValueError("the first time never works")
        return {"attempt": context.attempt}


@handler("chaos_poison", max_retry=2, retry=_RETRY)
def poison(context: Context, payload: dict[str, str]) -> None:
    """Kills its worker."""
    _write(context, "start")
    os._exit(66)


@handler("chaos_async_poison", max_retry=2, retry=_RETRY)
async def async_poison(context: Context, payload: dict[str, str]) -> None:
    """Wants to exit, from a callback of the loop that all async handlers share."""
    _write(context, "start")
    asyncio.get_running_loop().call_soon(sys.exit, 3)
    await asyncio.sleep(60)


@handler("chaos_loop", max_retry=_PLENTY, retry=_RETRY)
async def loop_ends(context: Context, payload: dict[str, str]) -> dict[str, int]:
    """Ends the loop, the first two times: an exception is raised in its thread, wherever that is."""
    with _journal(context):
        if context.attempt <= 2:
            thread = threading.get_ident()
            raising = lambda: ctypes.pythonapi.PyThreadState_SetAsyncExc(  # noqa: E731
                ctypes.c_ulong(thread), ctypes.py_object(GeneratorExit)
            )
            threading.Timer(0.05, raising).start()
            await asyncio.sleep(5)
        return {"attempt": context.attempt}


@handler("chaos_isolated_poison", max_retry=2, retry=_RETRY, isolation="process")
def isolated_poison(context: Context, payload: dict[str, str]) -> None:
    """Kills the process that it has for itself."""
    _write(context, "start")
    os.kill(os.getpid(), 11)


@handler("chaos_gil", max_retry=0)
def gil(context: Context, payload: dict[str, str]) -> dict[str, int]:
    """Holds Python's lock for `seconds`: no thread of the worker runs meanwhile."""
    with _journal(context):
        # PyDLL, unlike CDLL, does not give the lock away for the call.
        ctypes.PyDLL(None).sleep(int(payload["seconds"]))
        return {"attempt": context.attempt}


@handler("chaos_hang", max_retry=0)
def hang(context: Context, payload: dict[str, str]) -> None:
    """Never ends, whatever is raised in its thread."""
    _write(context, "start")
    while True:
        with suppress(BaseException):
            while True:
                time.sleep(1)
