"""Redis and SQL restart or fail over; servers and workers go on without a restart of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fix_mariadb import MariaDB
from fix_system import System, eventually, health
from fix_valkey import Sentinel, Valkey
from grpc_health.v1 import health_pb2
from trickle import trickle

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def _succeeds(system: System, within: float) -> None:
    client = system.client()
    task = client.create_task("echo")
    assert client.wait_for_task(task.task_id, within).status == "SUCCESS"


def test_a_restart_of_redis_is_lived_through_and_told(new_system: System, own_valkey: Valkey) -> None:
    new_system.environment["REDIS_ADDR"] = own_valkey.address
    new_system.start_server()
    new_system.start_worker()
    eventually(lambda: health(new_system.address, "redis") == SERVING)
    with trickle(new_system):
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
    with trickle(new_system):
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
        with trickle(system):
            own_mariadb.stop()
            eventually(lambda: health(system.address, "sql") == NOT_SERVING)
            own_mariadb.start()
            _succeeds(system, 15)
    finally:
        system.stop()
