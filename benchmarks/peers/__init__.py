"""The peers, each with the same task and as its own documentation says that it runs best.

A module has `start`, `send` and `stop` for the side that hands tasks over. The
worker's command is in PEERS. None of them stores what ATM stores.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """`worker` is the command after `python -m`; `note` says what was chosen."""

    name: str
    module: str
    worker: tuple[str, ...]
    note: str
    tasks: int = 10_000


PEERS = [
    Peer(
        "Dramatiq",
        "benchmarks.peers.raw_dramatiq",
        ("dramatiq", "benchmarks.peers.raw_dramatiq", "-p", "1", "-t", "8"),
        "its defaults, 1 process of 8 threads",
    ),
    Peer(
        "Celery, prefork",
        "benchmarks.peers.with_celery",
        (
            *("celery", "-A", "benchmarks.peers.with_celery:app", "worker", "-P", "prefork", "-c", "2"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "warning"),
        ),
        "Redis results, 2 processes, worker_prefetch_multiplier 64 as for short tasks",
        6_000,
    ),
    Peer(
        "Celery, threads",
        "benchmarks.peers.with_celery",
        (
            *("celery", "-A", "benchmarks.peers.with_celery:app", "worker", "-P", "threads", "-c", "8"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "warning"),
        ),
        "Redis results, 8 threads, worker_prefetch_multiplier 64",
        6_000,
    ),
    Peer(
        "Taskiq",
        "benchmarks.peers.with_taskiq",
        (
            *("taskiq", "worker", "benchmarks.peers.with_taskiq:broker", "--workers", "1"),
            *("--max-async-tasks", "100", "--log-level", "WARNING"),
        ),
        "list broker, Redis results, 1 process",
        6_000,
    ),
    Peer(
        "Huey",
        "benchmarks.peers.with_huey",
        ("huey.bin.huey_consumer", "benchmarks.peers.with_huey.huey", "-w", "8", "-k", "thread", "-q"),
        "results kept, 8 threads",
    ),
    Peer(
        "arq",
        "benchmarks.peers.with_arq",
        ("arq", "benchmarks.peers.with_arq.WorkerSettings"),
        "results kept, max_jobs 100, poll_delay 0.05 s",
        2_000,
    ),
    Peer(
        "RQ",
        "benchmarks.peers.with_rq",
        (
            *("rq.cli", "worker", "-w", "rq.worker.SimpleWorker", "--logging_level", "ERROR"),
            *("--url", "{redis}"),
        ),
        "results kept, SimpleWorker: no fork for each job",
        1_500,
    ),
]
