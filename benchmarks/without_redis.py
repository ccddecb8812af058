"""Redis is pulled under load: `python -m benchmarks.without_redis --seconds 600 --rate 200`.

Tells how long tasks take from their creation to their start before, during
and after, whether any was lost or ran twice, and what a worker drains without
Redis in comparison. Draws the dip (docs/without_redis.png).
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fix_system import eventually
from sqlalchemy import select

from atm.client import Client
from atm.errors import ServiceError
from atm.store.tasks import TASK
from benchmarks.installation import ROOT, Atm, Installation
from benchmarks.measures import drain, percentile

#: Before and after the outage.
_AROUND_SECONDS = 20.0
_CLIENTS = 4


class Start(NamedTuple):
    """When a task was created, in seconds since the load began, and how long it took until it started."""

    at: float
    took: float


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(prog="benchmarks.without_redis")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long Redis is away")
    parser.add_argument("--rate", type=float, default=200.0, help="tasks per second")
    parser.add_argument("--tasks", type=int, default=12_000, help="how many are drained")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="atm-bench-") as folder:
        installation = Installation(Path(folder))
        installation.start()
        try:
            starts, accepted, ended, ran = _pull(installation, options.seconds, options.rate)
            drained = {name: _drained(installation, options.tasks, name) for name in ("with", "without")}
        finally:
            installation.stop()
    print(_table(starts, options.seconds))
    print(f"\n{accepted} accepted, {accepted - ended} lost, {ran - accepted} ran more than once")
    share = drained["without"] / drained["with"]
    print(f"drained/s: {drained['with']:.0f} with Redis, {drained['without']:.0f} without ({share:.2f})")
    _plot(starts, options.seconds, ROOT / "docs" / "without_redis.png")


def _pull(installation: Installation, seconds: float, rate: float) -> tuple[list[Start], int, int, int]:
    """Every start; how many tasks were accepted, how many succeeded, and how often a handler ran."""
    atm = Atm(installation)
    accepted: list[str] = []
    stopping = threading.Event()

    def create() -> None:
        pause, due = _CLIENTS / rate, time.monotonic()
        with Client(atm.address) as client:
            while not stopping.is_set():
                try:
                    accepted.append(client.create_task("bench", {"n": "1"}).task_id)
                except ServiceError:
                    continue
                due += pause
                stopping.wait(max(0.0, due - time.monotonic()))

    try:
        atm.start_server()
        atm.start_worker(threads=8)
        threads = [threading.Thread(target=create) for _ in range(_CLIENTS)]
        for thread in threads:
            thread.start()
        time.sleep(_AROUND_SECONDS)
        installation.valkey.stop()
        time.sleep(seconds)
        installation.valkey.start()
        time.sleep(_AROUND_SECONDS)
        stopping.set()
        for thread in threads:
            thread.join()
        eventually(lambda: atm.count(status="SUCCESS") >= len(accepted))
        columns = select(TASK.c.created_at, TASK.c.started_at).order_by(TASK.c.created_at)
        rows = atm.database.read(lambda connection: connection.execute(columns).all())
        first = rows[0][0]
        starts = [
            Start((created - first).total_seconds(), (started - created).total_seconds())
            for created, started in rows
        ]
        return starts, len(accepted), atm.count(status="SUCCESS"), atm.starts.stat().st_size // 8
    finally:
        atm.stop()


def _drained(installation: Installation, tasks: int, name: str) -> float:
    """Tasks that one worker process drains per second, once it has started."""

    def pull() -> None:
        if name == "without":
            installation.valkey.stop()

    _, steady, _ = drain(installation, 1, tasks, before=pull)
    if name == "without":
        installation.valkey.start()
    return steady


def _phases(starts: Sequence[Start], seconds: float) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"before": [], "while it is away": [], "after": []}
    for at, took in starts:
        phase = "before" if at < _AROUND_SECONDS else "while it is away"
        found["after" if at >= _AROUND_SECONDS + seconds else phase].append(took)
    return found


def _table(starts: Sequence[Start], seconds: float) -> str:
    lines = ["| Redis | tasks | call to start p50 | p99 | longest |", "|---|---|---|---|---|"]
    for phase, took in _phases(starts, seconds).items():
        figures = (percentile(took, 0.5), percentile(took, 0.99), max(took))
        lines.append(f"| {phase} | {len(took)} | " + " | ".join(f"{x * 1000:.0f} ms" for x in figures) + " |")
    return "\n".join(lines)


def _plot(starts: Sequence[Start], seconds: float, file: Path) -> None:
    """The slowest start of each second, and the median."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    by_second: dict[int, list[float]] = {}
    for at, took in starts:
        by_second.setdefault(int(at), []).append(took * 1000)
    at = sorted(by_second)
    figure, axis = plt.subplots(figsize=(11, 3.5), layout="constrained")
    axis.axvspan(_AROUND_SECONDS, _AROUND_SECONDS + seconds, color="#fde68a", label="Redis is away")
    axis.plot(at, [percentile(by_second[second], 0.99) for second in at], color="#c2410c", label="p99")
    axis.plot(at, [percentile(by_second[second], 0.5) for second in at], color="#475569", label="p50")
    axis.set_yscale("log")
    axis.set_xlabel("seconds")
    axis.set_ylabel("call to start, ms")
    axis.legend(loc="upper right", fontsize=8)
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
