"""The registry of servers: each is there, alive, stopping, gone, and forgotten when it is silent for long."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from atm.errors import UnavailableError
from atm.models import Server, now
from atm.server.registry import FORGET, ServerRegistry
from atm.settings import Settings
from atm.states import WorkerStatus
from atm.store import servers
from atm.store.clock import DatabaseClock
from atm.store.database import Database


def _registry(database: Database, server_id: str = "a") -> ServerRegistry:
    return ServerRegistry(database, Settings.load(server_id=server_id, grpc_port=1234, worker_port=1235))


@pytest.fixture
def registry(database: Database) -> ServerRegistry:
    made = _registry(database)
    made.start()
    return made


def _rows(database: Database) -> dict[str, Server]:
    return {row.server_id: row for row in database.read(servers.all_servers)}


def _silence(database: Database, server_id: str, since: datetime) -> None:
    change = update(servers.SERVER).where(servers.SERVER.c.server_id == server_id)
    database.write(lambda connection: connection.execute(change.values(last_heartbeat_at=since)))


def test_a_server_is_listed_from_its_start_with_what_it_is(
    registry: ServerRegistry, database: Database
) -> None:
    row = _rows(database)["a"]
    assert (row.instance_id, row.grpc_port, row.worker_port) == (registry.instance_id, 1234, 1235)
    assert row.status == WorkerStatus.RUNNING


def test_two_servers_of_one_name_are_two(registry: ServerRegistry, database: Database) -> None:
    _registry(database).start()
    assert [row.server_id for row in database.read(servers.all_servers)] == ["a", "a"]


def test_a_server_says_that_it_lives(registry: ServerRegistry, database: Database) -> None:
    long_ago = now() - FORGET / 2
    _silence(database, "a", long_ago)
    assert not registry.run_once()
    assert _rows(database)["a"].last_heartbeat_at > long_ago


def test_who_is_silent_for_long_is_forgotten_and_nobody_else(
    registry: ServerRegistry, database: Database
) -> None:
    for name, silent in (("gone", FORGET + timedelta(seconds=1)), ("quiet", FORGET / 2)):
        _registry(database, name).start()
        _silence(database, name, now() - silent)
    registry.run_once()
    assert set(_rows(database)) == {"a", "quiet"}


def test_one_that_was_forgotten_wrongly_is_there_again(registry: ServerRegistry, database: Database) -> None:
    database.write(lambda connection: servers.remove(connection, registry.instance_id))
    registry.run_once()
    assert _rows(database)["a"].instance_id == registry.instance_id


def test_a_server_that_stops_says_so_and_is_not_listed_any_more_when_it_has(
    registry: ServerRegistry, database: Database
) -> None:
    registry.drain()
    assert _rows(database)["a"].status == WorkerStatus.DRAINING
    registry.run_once()
    assert _rows(database)["a"].status == WorkerStatus.DRAINING
    registry.stop()
    assert _rows(database) == {}


class _Away(Database):
    """A database that cannot be reached."""

    def __init__(self) -> None:
        self.asked = 0
        self.clock = DatabaseClock()

    def compare_clocks(self) -> None:
        self.write(lambda _: None)

    def write(self, work: Callable[..., Any]) -> Any:
        self.asked += 1
        raise UnavailableError("away")


def test_without_its_database_a_server_stops_all_the_same_and_does_not_start() -> None:
    database = _Away()
    registry = _registry(database)
    registry.drain()
    registry.stop()
    assert database.asked == 2
    with pytest.raises(UnavailableError):
        registry.start()


def test_why_redis_cannot_be_used_is_listed_while_it_cannot(database: Database) -> None:
    faults = ["Redis cannot be used: NOAUTH \x1b[31m" + "x" * 1000, ""]
    settings = Settings.load(server_id="a")
    registry = ServerRegistry(database, settings, lambda: faults[0])
    registry.start()
    registry.run_once()
    told = _rows(database)["a"].redis_fault
    assert told is not None
    assert told.startswith("Redis cannot be used: NOAUTH")
    assert told.isprintable()
    faults.pop(0)
    registry.run_once()
    assert not _rows(database)["a"].redis_fault
