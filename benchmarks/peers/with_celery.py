"""Celery with Redis as its broker and result backend."""

from __future__ import annotations

import os

from celery import Celery

from benchmarks.handlers import note_start

app = Celery("bench", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
app.conf.worker_prefetch_multiplier = 64


@app.task(name="bench")
def bench(n: str) -> None:
    """Does nothing."""
    note_start()


async def start() -> None:
    """Nothing to open."""


async def send() -> None:
    """One task."""
    bench.delay("1")


async def stop() -> None:
    """Nothing to close."""
