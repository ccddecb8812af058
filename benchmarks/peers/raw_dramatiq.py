"""Dramatiq as it is, over the same Redis; nothing is persisted."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.handlers import note_start

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_REDIS"]))  # type: ignore[no-untyped-call]


@dramatiq.actor
def bench(n: str) -> None:
    """Does nothing."""
    note_start()


async def start() -> None:
    """Nothing to open."""


async def send() -> None:
    """One task."""
    bench.send("1")


async def stop() -> None:
    """Nothing to close."""
