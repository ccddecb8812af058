"""Redis and SQL restart or fail over; servers and workers go on without a restart of their own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fix_mariadb import MariaDB
from fix_system import System, eventually, health
from fix_valkey import Sentinel, Valkey
from grpc_health.v1 import health_pb2

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass
class _Trickle:
    """A client that creates a task every 20 ms, whatever happens."""

    system: System
    ids: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        client = self.system.client()
        while not self.stopping.wait(0.02):
            self.ids.append(client.create_task("echo", deadline=20).task_id)

    def goes_on(self) -> None:
        """Returns when it has created some more."""
        enough = len(self.ids) + 15
        eventually(lambda: len(self.ids) >= enough, what="no more tasks are created")


@contextlib.contextmanager
def _trickle(system: System) -> Iterator[_Trickle]:
    """Tasks that are created meanwhile; all of them must succeed."""
    made = _Trickle(system)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        made.goes_on()
        yield made
        made.goes_on()
    finally:
        made.stopping.set()
        thread.join(30)
    client = system.client()
    assert {client.wait_for_task(task_id, 30).status for task_id in made.ids} == {"SUCCESS"}
    system.check_history()


def _succeeds(system: System, within: float) -> None:
    client = system.client()
    task = client.create_task("echo")
    assert client.wait_for_task(task.task_id, within).status == "SUCCESS"


def test_a_restart_of_redis_is_lived_through_and_told(new_system: System, own_valkey: Valkey) -> None:
    new_system.environment["REDIS_ADDR"] = own_valkey.address
    new_system.start_server()
    new_system.start_worker()
    eventually(lambda: health(new_system.address, "redis") == SERVING)
    with _trickle(new_system):
        own_valkey.stop()
        eventually(lambda: health(new_system.address, "redis") == NOT_SERVING)
        # Calls are answered without it.
        assert health(new_system.address, "taskservice.TaskService") == SERVING
        own_valkey.start()
        eventually(lambda: health(new_system.address, "redis") == SERVING)
        # 5 s is the promise; how long it takes is in docs/reliability.md.
        _succeeds(new_system, 10)


@dataclass
class _Replicated:
    master: Valkey
    replica: Valkey
    sentinel: Sentinel


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[_Replicated]:
    """A master, a replica, and a Sentinel that watches them."""
    folders = [tmp_path / name for name in ("master", "replica", "sentinel")]
    for folder in folders:
        folder.mkdir()
    master = Valkey(folders[0])
    replica = Valkey(folders[1], replica_of=master)
    sentinel = Sentinel(folders[2], master)
    made = _Replicated(master, replica, sentinel)
    try:
        for server in (master, replica, sentinel):
            server.start()
        eventually(sentinel.knows_replicas, what="the Sentinel finds no replica")
        yield made
    finally:
        for server in (sentinel, replica, master):
            server.stop()


@pytest.mark.parametrize("how", ["asked for", "its master dies"])
def test_a_failover_is_lived_through(new_system: System, replicated: _Replicated, how: str) -> None:
    """An old master that goes on is a replica: it answers READONLY, and the new one may know no script."""
    new_system.environment["REDIS_ADDR"] = replicated.sentinel.address
    new_system.start_server()
    new_system.start_worker()
    with _trickle(new_system):
        if how == "asked for":
            replicated.sentinel.fail_over()
        else:
            replicated.master.stop()
        eventually(lambda: replicated.sentinel.master_port() == replicated.replica.port)
        _succeeds(new_system, 15)


def test_a_restart_of_mariadb_is_lived_through(tmp_path: Path, own_mariadb: MariaDB, valkey: Valkey) -> None:
    system = System(tmp_path, valkey.address, own_mariadb.create_database())
    try:
        system.start_server()
        system.start_worker()
        with _trickle(system):
            own_mariadb.stop()
            eventually(lambda: health(system.address, "sql") == NOT_SERVING)
            own_mariadb.start()
            _succeeds(system, 15)
    finally:
        system.stop()
