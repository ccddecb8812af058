"""RQ."""

from __future__ import annotations

import os

import redis
from rq import Queue

from benchmarks.handlers import note_start

_queue = Queue(connection=redis.Redis.from_url(os.environ["BENCH_REDIS"]))


def bench(n: str) -> None:
    """Does nothing."""
    note_start()


async def start() -> None:
    """Nothing to open."""


async def send() -> None:
    """One task."""
    _queue.enqueue(bench, "1")


async def stop() -> None:
    """Nothing to close."""
