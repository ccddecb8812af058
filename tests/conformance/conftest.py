"""The services over each database in turn, OceanBase's engine among them, without processes around them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_oceanbase import Installed, OceanBase
from fix_sql import BACKENDS, new_dsn
from fix_valkey import Valkey
from history import check_history
from make_tasks import Tasks

from atm.broker.broker import TaskBroker
from atm.service.dispatch import Dispatcher
from atm.service.task_service import TaskService
from atm.store import schema_upgrade
from atm.store.database import Database
from atm.store.dsn import parse_sql_dsn


@pytest.fixture(params=(*BACKENDS, "oceanbase"))
def empty_dsn(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables, on each engine in turn."""
    if request.param == "oceanbase":
        server: OceanBase = request.getfixturevalue("oceanbase")
        return server.create_database()
    return new_dsn(request.param, request, tmp_path)


@pytest.fixture(params=(*BACKENDS, "oceanbase"))
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with the schema, on each engine in turn."""
    if request.param == "oceanbase":
        installed: Installed = request.getfixturevalue("oceanbase_installed")
        return installed.as_new()
    empty = new_dsn(request.param, request, tmp_path)
    schema_upgrade.upgrade(parse_sql_dsn(empty))
    return empty


@pytest.fixture
def broker(valkey: Valkey, prefix: str) -> Iterator[TaskBroker]:
    made = TaskBroker(valkey.url, prefix=prefix)
    yield made
    made.close()


@pytest.fixture
def service(database: Database, broker: TaskBroker) -> Iterator[TaskService]:
    made = TaskService(database, Dispatcher(broker))
    made.start()
    yield made
    made.close()


@pytest.fixture
def creation(service: TaskService) -> TaskService:
    """The same, by the name of what most tests use it for."""
    return service


@pytest.fixture
def made(database: Database, creation: TaskService) -> Iterator[Tasks]:
    """Tasks, whose histories must be legal when the test is over."""
    yield Tasks(database, creation)
    check_history(database)
