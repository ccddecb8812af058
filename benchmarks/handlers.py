"""ATM's handlers for the benchmarks: they note when they start, and do nothing else."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

from atm import Context, handler

_FILE = os.environ.get("BENCH_STARTS", "")
_FD = os.open(_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if _FILE else -1


def note_start() -> None:
    """Adds the time to the file of starts: two microseconds, the same for all that are measured."""
    os.write(_FD, struct.pack("<q", time.time_ns()))


def read_starts(file: Path) -> list[float]:
    """The times that were noted, in seconds, in order."""
    data = file.read_bytes() if file.exists() else b""
    whole = len(data) // 8
    return sorted(ns / 1e9 for ns in struct.unpack(f"<{whole}q", data[: whole * 8]))


@handler("bench", max_retry=0)
def bench(context: Context, payload: dict[str, str]) -> None:
    """Does nothing."""
    note_start()


@handler("bench_10ms", max_retry=0)
def bench_10ms(context: Context, payload: dict[str, str]) -> None:
    """Takes ten milliseconds, and nothing else."""
    note_start()
    time.sleep(0.01)


@handler("bench_wait", max_retry=0)
def bench_wait(context: Context, payload: dict[str, str]) -> None:
    """Waits until it is cancelled, and notes when it is told."""
    while not context.cancelled:
        time.sleep(0.0005)
    note_start()
