"""A server's life: what it offers, how it stops, and what it says while its database is away."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from fix_mariadb import MariaDB
from fix_system import System, eventually, health
from fix_valkey import Valkey
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from atm.client import Client
from atm.errors import UnavailableError

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def _services(address: str) -> list[str]:
    with grpc.insecure_channel(address) as channel:
        return list(ProtoReflectionDescriptorDatabase(channel).get_services())


def test_a_server_offers_reflection_only_when_it_is_asked_to(new_system: System) -> None:
    new_system.start_server("--reflection")
    assert "taskservice.TaskService" in _services(new_system.address)
    new_system.start_server()
    with pytest.raises(grpc.RpcError) as caught:
        _services(new_system.address)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.fixture
def on_sqlite(tmp_path: Path, valkey: Valkey) -> Iterator[System]:
    """A database file that the test can lock, to hold a call."""
    made = System(tmp_path, valkey.address, f"sqlite:///{tmp_path / 'atm.db'}")
    yield made
    made.stop()


def test_a_call_in_flight_is_finished_when_the_server_stops(on_sqlite: System) -> None:
    server = on_sqlite.start_server()
    client = on_sqlite.client()
    client.create_task("example_task")
    holder = sqlite3.connect(on_sqlite.folder / "atm.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    answers: list[str] = []
    call = threading.Thread(target=lambda: answers.append(client.create_task("example_task").status))
    call.start()
    assert health(on_sqlite.address, "taskservice.TaskService") == SERVING
    server.popen.terminate()

    def stopping() -> bool:
        try:
            return bool(health(on_sqlite.address, "") == NOT_SERVING)
        except grpc.RpcError:
            return True

    eventually(stopping)
    assert answers == []
    holder.execute("ROLLBACK")
    holder.close()
    call.join(10)
    assert answers == ["PENDING"]
    assert server.popen.wait(60) == 0
    on_sqlite.check_history()


def test_a_database_that_is_away_is_told_and_comes_back_by_itself(
    tmp_path_factory: pytest.TempPathFactory, own_mariadb: MariaDB, valkey: Valkey
) -> None:
    system = System(tmp_path_factory.mktemp("away"), valkey.address, own_mariadb.create_database())
    try:
        system.start_server()
        system.start_worker()
        with Client(system.address, retries=False) as client:
            own_mariadb.stop()
            with pytest.raises(UnavailableError) as caught:
                client.create_task("echo")
            assert caught.value.reason == "DATABASE_UNAVAILABLE"
            assert caught.value.retry_after == 1.0
            eventually(lambda: health(system.address, "taskservice.TaskService") == NOT_SERVING)
            assert health(system.address, "") == SERVING
            own_mariadb.start()
            eventually(lambda: health(system.address, "taskservice.TaskService") == SERVING)
            task = client.create_task("echo")
            assert client.wait_for_task(task.task_id, 30).status == "SUCCESS"
        system.check_history()
    finally:
        system.stop()
