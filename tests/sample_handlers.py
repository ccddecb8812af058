"""Handlers for the tests; workers import them through ATM_HANDLERS.

What they did is left in files under SCRATCH, so that a test can wait for it.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from atm import Context, NonRetryableError, Retry, handler

_QUICK = Retry("FIXED", delay=0.1)


def scratch() -> Path:
    """Where handlers leave traces."""
    return Path(os.environ["SCRATCH"])


def _mark(context: Context, text: str) -> None:
    with (scratch() / f"{context.task_id}.marks").open("a") as file:
        file.write(text + "\n")


@handler("echo")
def echo(context: Context, payload: dict[str, str]) -> dict[str, str]:
    """Returns its payload."""
    return payload


@handler("note_start")
def note_start(context: Context, payload: dict[str, str]) -> None:
    """Notes when it started, in one file for all, and works for `seconds`."""
    line = f"{time.time_ns()} {context.task_id} {context.priority} {payload.get('name', '')}\n"
    with (scratch() / "starts").open("a") as file:
        file.write(line)
    time.sleep(float(payload.get("seconds", "0")))


@handler("hold", max_retry=1, retry=_QUICK)
def hold(context: Context, payload: dict[str, str]) -> None:
    """Works until the test has made the file `until` (see `System.let_go`)."""
    _mark(context, f"attempt {context.attempt}")
    while not (scratch() / payload["until"]).exists():
        time.sleep(0.01)


@handler("talk")
def talk(context: Context, payload: dict[str, str]) -> None:
    """Logs and reports progress."""
    context.logger.info("hello %s", "there")
    context.progress(0.5, "half")
    context.logger.warning("careful")


class Order(BaseModel):
    """A payload with types."""

    customer: str
    amount: int
    items: list[str] = []
    note: str | None = None


@handler("typed", max_retry=2)
def typed(context: Context, payload: Order) -> Order:
    """Returns what it was given, as a model."""
    return payload


@handler("fail_times", max_retry=3, retry=_QUICK)
def fail_times(context: Context, payload: dict[str, str]) -> dict[str, Any]:
    """Fails as often as `times` says, then succeeds."""
    if context.attempt <= int(payload["times"]):
        raise ValueError(f"failure number {context.attempt}")
    return {"attempt": context.attempt}


@handler("fail_for_good", max_retry=3, retry=_QUICK)
def fail_for_good(context: Context, payload: dict[str, str]) -> None:
    """Fails in a way that no retry helps."""
    raise NonRetryableError("there is no such customer")


@handler("async_echo")
async def async_echo(context: Context, payload: dict[str, str]) -> dict[str, str]:
    """Returns its payload, later."""
    await asyncio.sleep(0.05)
    return payload


@handler("cooperative")
def cooperative(context: Context, payload: dict[str, str]) -> None:
    """Looks at context.cancelled, and returns when it is set."""
    _mark(context, "started")
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if context.cancelled:
            _mark(context, f"noticed {time.time_ns()}")
            return
        time.sleep(0.005)


@handler("stubborn", cancel_grace=0.1)
def stubborn(context: Context, payload: dict[str, str]) -> None:
    """Never looks at the context; an exception raised in its thread stops it."""
    _mark(context, "started")
    try:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            time.sleep(0.005)
    except BaseException as error:
        _mark(context, f"{type(error).__name__} {time.time_ns()}")
        raise


@handler("async_sleep")
async def async_sleep(context: Context, payload: dict[str, str]) -> None:
    """Sleeps; a cancellation stops it."""
    _mark(context, "started")
    try:
        await asyncio.sleep(20)
    except asyncio.CancelledError:
        _mark(context, f"CancelledError {time.time_ns()}")
        raise


@handler("isolated", isolation="process")
def isolated(context: Context, payload: dict[str, str]) -> dict[str, Any]:
    """Tells in which process it runs."""
    context.logger.info("isolated")
    context.progress(0.25, "on my own")
    return {"pid": os.getpid(), "parent": os.getppid()}


@handler("isolated_stuck", isolation="process", max_retry=0)
def isolated_stuck(context: Context, payload: dict[str, str]) -> None:
    """Is in one call into C that nothing but a kill ends."""
    _mark(context, f"started {os.getpid()}")
    time.sleep(60)


@handler("isolated_fails", isolation="process", max_retry=0)
def isolated_fails(context: Context, payload: dict[str, str]) -> None:
    """Raises, exits or dies in its own process."""
    match payload["how"]:
        case "raise":
            raise ValueError("isolated failure")
        case "for_good":
            raise NonRetryableError("isolated, for good")
        case "exit":
            os._exit(7)
        case "signal":
            os.kill(os.getpid(), 9)


@handler("stuck", max_retry=0)
def stuck(context: Context, payload: dict[str, str]) -> str:
    """Is in one call into C: for `seconds`, or until the pipe `until` is opened by the test."""
    _mark(context, "started")
    if "until" in payload:
        os.close(os.open(scratch() / payload["until"], os.O_RDONLY))
    else:
        time.sleep(float(payload["seconds"]))
    return "late"


@handler("slow", max_retry=1, retry=_QUICK)
def slow(context: Context, payload: dict[str, str]) -> None:
    """Works for `seconds` in small steps."""
    _mark(context, f"attempt {context.attempt}")
    end = time.monotonic() + float(payload.get("seconds", "2"))
    while time.monotonic() < end:
        time.sleep(0.01)


@handler("die", max_retry=1, retry=_QUICK)
def die(context: Context, payload: dict[str, str]) -> None:
    """Kills its worker process."""
    _mark(context, f"attempt {context.attempt}")
    os._exit(9)


@handler("bad_result", max_retry=3)
def bad_result(context: Context, payload: dict[str, str]) -> Any:
    """Returns what cannot be kept."""
    return {"set": {1, 2}} if payload.get("kind") == "set" else {"big": "x" * 2_000_000}


@handler("hold_gil", max_retry=3, retry=_QUICK)
def hold_gil(context: Context, payload: dict[str, str]) -> None:
    """Holds Python's lock for `seconds`: no thread of its worker runs meanwhile."""
    _mark(context, f"attempt {context.attempt}")
    # PyDLL, unlike CDLL, does not give the lock away for the call.
    ctypes.PyDLL(None).sleep(int(payload["seconds"]))


@handler("on_the_loop", max_retry=0)
async def on_the_loop(context: Context, payload: dict[str, str]) -> str:
    """Works on the event loop until the test has made the file `until`, and, with `blocks`, holds it."""
    _mark(context, "started")
    while not (scratch() / payload["until"]).exists():
        if "blocks" in payload:
            time.sleep(0.01)
        else:
            await asyncio.sleep(0.01)
    return "done"


@handler("exits_on_the_loop", max_retry=0)
async def exits_on_the_loop(context: Context, payload: dict[str, str]) -> None:
    """Exits in a task that it has started, in a callback, or by stopping the loop."""
    loop = asyncio.get_running_loop()

    async def exits() -> None:
        sys.exit(2)

    match payload["how"]:
        case "task":
            await asyncio.gather(exits(), asyncio.sleep(600))
        case "callback":
            loop.call_soon(sys.exit, 2)
        case "stop":
            loop.stop()
    await asyncio.sleep(600)


@handler("chatty")
def chatty(context: Context, payload: dict[str, str]) -> None:
    """Logs so many long lines, and fails."""
    for number in range(int(payload["lines"])):
        context.logger.info("%s %d", "w" * 950, number)
    raise ValueError("again")


@handler("log_hostile")
def log_hostile(context: Context, payload: dict[str, str]) -> None:
    """Logs the payload's text in every way that leads to the worker's own log."""

    def fail() -> None:
        raise ValueError(payload["text"])

    logging.getLogger("somebody").warning("said %s", payload["text"])
    logging.getLogger(payload["text"]).warning("said")
    thread = threading.Thread(target=fail, name=payload["text"])
    thread.start()
    thread.join()
    raise NonRetryableError(payload["text"])
