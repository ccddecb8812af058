"""Taskiq with a list in Redis and its results there."""

from __future__ import annotations

import os

from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from benchmarks.handlers import note_start

_URL = os.environ["BENCH_REDIS"]
broker = ListQueueBroker(_URL).with_result_backend(RedisAsyncResultBackend(_URL, result_ex_time=600))


@broker.task(task_name="bench")
async def bench(n: str) -> None:
    """Does nothing."""
    note_start()


async def start() -> None:
    """Connects."""
    await broker.startup()


async def send() -> None:
    """One task."""
    await bench.kiq("1")


async def stop() -> None:
    """Disconnects."""
    await broker.shutdown()
