"""OceanBase's engine for the whole run: the server that the wheel `pylibseekdb` holds.

Where the wheel is missing, its tests are skipped, and the run says so. With
ATM_REQUIRE_OCEANBASE set, as in CI, they fail instead.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest
from ports import free_port

from atm.store import schema_upgrade
from atm.store.dsn import parse_sql_dsn

#: The least that it starts with.
_PARAMETERS = ("memory_limit=2G", "datafile_size=1G", "datafile_maxsize=2G", "log_disk_size=2G")
_START_SECONDS = 180.0


def _program() -> Path | None:
    found = importlib.util.find_spec("pylibseekdb")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "seekdb"


def is_installed() -> bool:
    """Whether there is such a server."""
    return _program() is not None


def missing_reason() -> str:
    """Why OceanBase was not tried, and what to do about it."""
    return "pylibseekdb is not installed (pip install -e '.[oceanbase]'), so nothing was tried on OceanBase"


class OceanBase:
    """A server on a private port and folder; its root has no password."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        program = _program()
        assert program is not None
        parameters = [word for parameter in _PARAMETERS for word in ("--parameter", parameter)]
        with (self._folder / "output").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(program),
                    "--nodaemon",
                    "-P",
                    str(self.port),
                    "--base-dir",
                    str(self._folder),
                    *parameters,
                ],
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.root().close()
                return
            except pymysql.err.MySQLError:
                said = (self._folder / "output").read_text(errors="replace")[-2000:]
                assert self._process.poll() is None, f"OceanBase ends: {said}"
                assert time.monotonic() < end, f"OceanBase does not start: {said}"
                time.sleep(0.2)

    def stop(self) -> None:
        """Kills it, and removes its files, which are large."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def root(self) -> pymysql.Connection[pymysql.cursors.Cursor]:
        """A connection that may do everything."""
        return pymysql.connect(
            host="127.0.0.1", port=self.port, user="root", autocommit=True, connect_timeout=3
        )

    def create_database(self) -> str:
        """The DSN, in the Go form, of a new and empty database."""
        name = f"atm_{secrets.token_hex(4)}"
        with self.root() as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        return f"root@tcp(127.0.0.1:{self.port})/{name}"


class Installed:
    """A database with the schema, for one test after the other: making one takes longer than most of them."""

    def __init__(self, server: OceanBase) -> None:
        self.dsn = server.create_database()
        self._server = server
        self._name = str(parse_sql_dsn(self.dsn).database)
        schema_upgrade.upgrade(parse_sql_dsn(self.dsn))
        with server.root() as connection, connection.cursor() as cursor:
            cursor.execute(f"SHOW TABLES FROM {self._name}")
            tables = [str(row[0]) for row in cursor.fetchall()]
            self._rows = {table: self._read(cursor, table) for table in tables}

    def _read(self, cursor: pymysql.cursors.Cursor, table: str) -> list[tuple[object, ...]]:
        cursor.execute(f"SELECT * FROM {self._name}.{table}")
        return list(cursor.fetchall())

    def as_new(self) -> str:
        """The DSN, with the rows that the upgrade has made, and no others."""
        with self._server.root() as connection, connection.cursor() as cursor:
            for table, rows in self._rows.items():
                cursor.execute(f"DELETE FROM {self._name}.{table}")
                for row in rows:
                    cursor.execute(f"INSERT INTO {self._name}.{table} VALUES %s", (row,))
        return self.dsn


def require_oceanbase() -> None:
    """Skips the test where there is no OceanBase, or fails it where there must be."""
    if not is_installed():
        if os.environ.get("ATM_REQUIRE_OCEANBASE"):
            pytest.fail(missing_reason())
        pytest.skip(missing_reason())


@pytest.fixture(scope="session")
def oceanbase(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OceanBase]:
    """One server for all tests, which do not break it."""
    require_oceanbase()
    server = OceanBase(tmp_path_factory.mktemp("oceanbase"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def oceanbase_installed(oceanbase: OceanBase) -> Installed:
    """A database with the schema, of which each test takes what is new."""
    return Installed(oceanbase)
