"""Databases with the schema in place: the same tests on SQLite and on MariaDB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_mariadb import MariaDB

from atm.store import schema_upgrade
from atm.store.database import Database
from atm.store.dsn import parse_sql_dsn

BACKENDS = ("sqlite", "mariadb")


def new_dsn(backend: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """The DSN of a new, empty database."""
    if backend == "sqlite":
        return f"sqlite:///{folder / 'atm.db'}"
    server: MariaDB = request.getfixturevalue("mariadb")
    return server.create_database()


@pytest.fixture(params=BACKENDS)
def empty_dsn(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables, on each backend in turn."""
    return new_dsn(request.param, request, tmp_path)


@pytest.fixture
def dsn(empty_dsn: str) -> str:
    """A database with the schema, on each backend in turn."""
    schema_upgrade.upgrade(parse_sql_dsn(empty_dsn))
    return empty_dsn


@pytest.fixture
def database(dsn: str) -> Iterator[Database]:
    """The same, opened."""
    opened = Database(parse_sql_dsn(dsn), pool_size=12)
    yield opened
    opened.close()
