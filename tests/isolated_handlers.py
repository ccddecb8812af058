"""Handlers for attempts in processes of their own; these import them through ATM_HANDLERS."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import math
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from pydantic import BaseModel

from atm import Context, NonRetryableError, handler

TENANT: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
# What a module sets when it is imported is in the context of the process.
TENANT.set("the module")
decimal.getcontext().prec = 4

UNSTORABLE = "caf\udce9 \0 \ud800"


class _SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class _UnpicklableError(Exception):
    def __init__(self) -> None:
        super().__init__("cannot be copied")
        self.lock = threading.Lock()

    def __reduce__(self) -> NoReturn:
        raise TypeError("no")


class _Bytes(BaseModel):
    raw: bytes = b"\xff"


def _raise(error: BaseException) -> NoReturn:
    raise error


def _sees(context: Context) -> dict[str, str]:
    return {"tenant": TENANT.get(), "third": str(decimal.Decimal(1) / 3)}


def _says(context: Context) -> str:
    context.logger.info("before")
    context.logger.info(UNSTORABLE)
    context.logger.info("%d rows", "no number")
    context.logger.info("%s", _SilentError())
    context.logger.warning("x" * 100_000)
    context.progress(0.5, UNSTORABLE)
    context.logger.info("after")
    return "ok"


def _circle() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


#: What both handlers do, by the payload's `do`.
DOES: dict[str, Callable[[Context], Any]] = {
    "sees": _sees,
    "says": _says,
    "exits": lambda context: sys.exit(3),
    "interrupts": lambda context: _raise(KeyboardInterrupt()),
    "ends a generator": lambda context: _raise(GeneratorExit()),
    "has no text": lambda context: _raise(_SilentError()),
    "has an unstorable text": lambda context: _raise(ValueError(UNSTORABLE)),
    "cannot be copied": lambda context: _raise(_UnpicklableError()),
    "raises a group": lambda context: _raise(BaseExceptionGroup("several", [SystemExit(1)])),
    "never": lambda context: _raise(NonRetryableError("never")),
    "returns nan": lambda context: {"a": [math.nan]},
    "returns bytes in a model": lambda context: _Bytes(),
    "returns a circle": lambda context: _circle(),
    "returns surrogates": lambda context: {"a": UNSTORABLE},
    "returns nul": lambda context: "a\0b",
}


async def _exits() -> None:
    await asyncio.sleep(0)
    sys.exit(3)


async def _exits_in_a_task() -> None:
    await asyncio.gather(_exits(), asyncio.sleep(600))


async def _exits_in_a_callback() -> None:
    asyncio.get_running_loop().call_soon(sys.exit, 3)
    await asyncio.sleep(600)


async def _stops_the_loop() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(600)


async def _leaves_a_task() -> str:
    started = asyncio.create_task(asyncio.sleep(600))
    await asyncio.sleep(0)
    return f"left {bool(started)}"


#: What only the async one can.
DOES_ASYNC = {
    "exits in a task": _exits_in_a_task,
    "exits in a callback": _exits_in_a_callback,
    "stops the loop": _stops_the_loop,
    "leaves a task": _leaves_a_task,
}


@handler("alone_plain", isolation="process")
def alone_plain(context: Context, payload: dict[str, str]) -> Any:
    """Does what it is told."""
    return DOES[payload["do"]](context)


@handler("alone_async", isolation="process")
async def alone_async(context: Context, payload: dict[str, str]) -> Any:
    """The same, on an event loop."""
    if payload["do"] in DOES_ASYNC:
        return await DOES_ASYNC[payload["do"]]()
    return DOES[payload["do"]](context)
