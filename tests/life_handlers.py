"""Handlers that hurt the life of their worker: they hold threads, Python's lock, or leave things behind.

Imported beside `sample_handlers`, through ATM_HANDLERS. What they did is left in files under SCRATCH.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from atm import Context, handler


def _mark(context: Context, text: str) -> None:
    with (Path(os.environ["SCRATCH"]) / f"{context.task_id}.marks").open("a") as file:
        file.write(text + "\n")


def _gate(payload: dict[str, str]) -> Path:
    return Path(os.environ["SCRATCH"]) / payload["until"]


@handler("hang", max_retry=0)
def hang(context: Context, payload: dict[str, str]) -> str:
    """Is in calls that nothing interrupts, until the file `until` is there."""
    _mark(context, "started")
    gate = str(_gate(payload))
    while True:
        # All of it inside: what is raised comes wherever the thread is. Only calls into C, so that it is
        # always here.
        with contextlib.suppress(BaseException):
            while not os.access(gate, os.F_OK):
                time.sleep(0.05)
            return "late"


@handler("async_hang", max_retry=0)
async def async_hang(context: Context, payload: dict[str, str]) -> None:
    """Swallows every cancellation, until the file `until` is there."""
    _mark(context, "started")
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            while not _gate(payload).exists():
                await asyncio.sleep(0.05)
            return


@handler("hold_lock", max_retry=0)
def hold_lock(context: Context, payload: dict[str, str]) -> None:
    """Holds Python's lock for `seconds`, in the first attempt."""
    _mark(context, f"attempt {context.attempt}")
    if context.attempt == 1:
        ctypes.PyDLL(None).sleep(int(payload["seconds"]))


@handler("leave_thread", max_retry=0)
def leave_thread(context: Context, payload: dict[str, str]) -> None:
    """Leaves a thread behind that Python would wait for."""
    threading.Thread(target=time.sleep, args=(600,)).start()


def _sleep(ready: int) -> None:
    os.write(ready, b".")
    time.sleep(600)


@handler("stop_children", max_retry=0)
def stop_children(context: Context, payload: dict[str, str]) -> dict[str, int | None]:
    """Starts processes of its own and asks them to stop: forked, and a program."""
    return _stopped_children()


@handler("isolated_stop_children", max_retry=0, isolation="process")
def isolated_stop_children(context: Context, payload: dict[str, str]) -> dict[str, int | None]:
    """The same in a process of its own."""
    return _stopped_children()


def _stopped_children() -> dict[str, int | None]:
    reader, writer = os.pipe()
    forked = multiprocessing.get_context("fork").Process(target=_sleep, args=(writer,))
    forked.start()
    program = subprocess.Popen(["sleep", "600"])
    os.read(reader, 1)
    forked.terminate()
    program.terminate()
    forked.join(20)
    return {"forked": forked.exitcode, "program": program.wait(20)}


@handler("isolated_hold", max_retry=0, isolation="process")
def isolated_hold(context: Context, payload: dict[str, str]) -> dict[str, Any]:
    """Works in a process of its own until the file `until` is there."""
    _mark(context, f"started {os.getpid()}")
    while not _gate(payload).exists():
        time.sleep(0.01)
    return {"attempt": context.attempt}


@handler("isolated_own_signals", max_retry=0, isolation="process")
def isolated_own_signals(context: Context, payload: dict[str, str]) -> dict[str, Any]:
    """Sets a handler of its own for SIGTERM, and waits for the signal."""
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: told.set())
    _mark(context, f"started {os.getpid()}")
    return {"told": told.wait(60)}
