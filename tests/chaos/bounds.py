"""`python -m chaos --bounds`: how long it takes to be well again, beside what is promised."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from fix_system import eventually

from atm.errors import ServiceError
from atm.models import Server
from chaos.installation import Installation, send_signal


@dataclass(frozen=True)
class Bound:
    """One thing that is promised within some seconds, and what measures it once or often."""

    name: str
    promised: float
    measure: Callable[[Installation], list[float]]
    times: int


def _next_leader(installation: Installation, first: Server, number: signal.Signals) -> float:
    """How long after a signal to the leader another one leads."""
    began = time.monotonic()
    send_signal(first.pid, number)

    def another() -> bool:
        leader = installation.leader()
        return leader is not None and leader.pid != first.pid

    eventually(another, 20)
    return time.monotonic() - began


def _of_leader(number: signal.Signals) -> Callable[[Installation], list[float]]:
    def measure(installation: Installation) -> list[float]:
        first = eventually(installation.leader, 20)
        took = _next_leader(installation, first, number)
        if number == signal.SIGSTOP:
            os.kill(first.pid, signal.SIGCONT)
        # The one that is gone is started again by the installation.
        eventually(lambda: len(installation.live_servers()) == len(installation.server_parts()), 30)
        return [took]

    return measure


def _waiting_tasks_after(installation: Installation, outage: Callable[[], None]) -> list[float]:
    """Tasks are accepted while Redis is away; how long after its return the last of them has run."""
    installation.valkey.stop()
    ids = []
    with installation.client() as client:
        while len(ids) < 20:
            try:
                ids.append(client.create_task("chaos_quick", deadline=5).task_id)
            except ServiceError:
                time.sleep(0.05)
        outage()
        installation.valkey.start()
        began = time.monotonic()
        for task_id in ids:
            client.wait_for_task(task_id, 60)
    return [time.monotonic() - began]


def _redis_was_down(installation: Installation) -> list[float]:
    return _waiting_tasks_after(installation, lambda: time.sleep(1))


def _redis_forgot(installation: Installation) -> list[float]:
    return _waiting_tasks_after(installation, installation.forget_redis)


def _mariadb_restarted(installation: Installation) -> list[float]:
    assert installation.mariadb is not None
    installation.mariadb.stop()
    installation.mariadb.start()
    return [installation.probe()]


def _delays(installation: Installation) -> list[float]:
    with installation.client() as client:
        made = client.create_tasks(
            [{"task_type": "chaos_quick", "delay": 0.5 + number / 40} for number in range(200)]
        )
        done = [client.wait_for_task(task.task_id, 60) for task in made]
    return [
        (task.started_at - task.due_at).total_seconds() for task in done if task.started_at and task.due_at
    ]


def _bounds(installation: Installation) -> list[Bound]:
    of_leader = [
        Bound("a leader is stopped: another one leads", 1.0, _of_leader(signal.SIGTERM), 20),
        Bound("a leader is killed: another one leads", 3.0, _of_leader(signal.SIGKILL), 20),
        Bound("a leader is frozen: another one leads", 3.0, _of_leader(signal.SIGSTOP), 20),
    ]
    of_redis = [
        Bound("Redis was away: what was accepted meanwhile has run", 5.0, _redis_was_down, 10),
        Bound("Redis comes back empty: what was accepted meanwhile has run", 5.0, _redis_forgot, 10),
    ]
    of_sql = [Bound("MariaDB restarted: a new task has run", 5.0, _mariadb_restarted, 10)]
    delays = [Bound("a delay is over: the handler starts", 0.2, _delays, 3)]
    return of_leader + of_redis + (of_sql if installation.mariadb else []) + delays


def measure_bounds(installation: Installation) -> int:
    """Measures them all and prints a table; the number of promises that were not kept."""
    broken = 0
    print("| what | times | p50 | p99 | longest | promised |\n|---|---|---|---|---|---|", flush=True)
    for bound in _bounds(installation):
        took = sorted(value for _ in range(bound.times) for value in bound.measure(installation))
        p99 = took[min(len(took) - 1, int(len(took) * 0.99))]
        numbers = " | ".join(f"{value:.2f} s" for value in (statistics.median(took), p99, took[-1]))
        print(f"| {bound.name} | {len(took)} | {numbers} | {bound.promised:g} s |", flush=True)
        broken += p99 > bound.promised
    return broken
