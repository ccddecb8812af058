"""The peers, measured the way ATM is: tasks that wait are drained; then single ones find an idle worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import redis
from fix_system import Process, eventually

from benchmarks.handlers import read_starts
from benchmarks.installation import PATHS, ROOT, Installation
from benchmarks.measures import Figures, percentile
from benchmarks.peers import Peer

_DRAIN_SECONDS = 180.0
#: Beside what a pause of this many seconds leaves, nothing happens.
_PAUSE_SECONDS = 0.1


def peer(installation: Installation, of: Peer, idle: int = 40) -> Figures:
    """Tasks handed over and drained per second, and how soon an idle worker starts one."""
    redis.Redis.from_url(installation.valkey.url).flushall()
    folder = installation.new_folder()
    starts = folder / "starts"
    environment = {"BENCH_REDIS": installation.valkey.url, "BENCH_STARTS": str(starts), "PYTHONPATH": PATHS}
    times = _hand_over(of, of.tasks, environment)
    command = ["-m", *(word.format(redis=installation.valkey.url) for word in of.worker)]
    worker = installation.run(command, environment, f"{folder.name}-worker")
    try:
        eventually(lambda: _count(starts) >= of.tasks, _DRAIN_SECONDS, f"{of.name} does not drain")
        drained = read_starts(starts)
        latencies = _idle(of, idle, environment, worker, of.tasks)
    finally:
        worker.kill()
    return {
        "handed over/s": of.tasks / (times[-1] - times[0]),
        "drained/s": (of.tasks - 1) / (drained[-1] - drained[0]),
        "call to start p50, ms": percentile(latencies, 0.5) * 1000,
        "call to start p95, ms": percentile(latencies, 0.95) * 1000,
    }


def _count(starts: Path) -> int:
    return starts.stat().st_size // 8 if starts.exists() else 0


def _idle(of: Peer, count: int, environment: dict[str, str], worker: Process, before: int) -> list[float]:
    starts = Path(environment["BENCH_STARTS"])
    times = _hand_over(of, count, environment, _PAUSE_SECONDS)
    eventually(lambda: _count(starts) >= before + count, 60, f"{of.name} loses single tasks")
    assert worker.popen.poll() is None, worker.output()
    return [start - call for call, start in zip(times, read_starts(starts)[before:], strict=False)]


def _hand_over(of: Peer, count: int, environment: dict[str, str], pause: float = 0.0) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers.hand_over", of.module, str(count), str(pause)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    times: list[float] = json.loads(done.stdout)
    return times
