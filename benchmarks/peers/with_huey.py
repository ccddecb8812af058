"""Huey with Redis, which it blocks on."""

from __future__ import annotations

import os

from huey import RedisHuey

from benchmarks.handlers import note_start

huey = RedisHuey("bench", url=os.environ["BENCH_REDIS"])


@huey.task()
def bench(n: str) -> bool:
    """Does nothing."""
    note_start()
    return True


async def start() -> None:
    """Nothing to open."""


async def send() -> None:
    """One task."""
    bench("1")


async def stop() -> None:
    """Nothing to close."""
