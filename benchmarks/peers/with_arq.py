"""arq."""

from __future__ import annotations

import os
from typing import Any

from arq import create_pool
from arq.connections import ArqRedis, RedisSettings

from benchmarks.handlers import note_start

_SETTINGS = RedisSettings.from_dsn(os.environ["BENCH_REDIS"])
_pool: ArqRedis | None = None


async def bench(ctx: dict[str, Any], n: str) -> None:
    """Does nothing."""
    note_start()


class WorkerSettings:
    """What the worker's command reads."""

    functions = (bench,)
    redis_settings = _SETTINGS
    max_jobs = 100
    poll_delay = 0.05


async def start() -> None:
    """Connects."""
    global _pool
    _pool = await create_pool(_SETTINGS)


async def send() -> None:
    """One task."""
    assert _pool is not None
    await _pool.enqueue_job("bench", "1")


async def stop() -> None:
    """Disconnects."""
    assert _pool is not None
    await _pool.aclose()
