"""A MariaDB for the whole run; each test gets a database of its own.

Where there is no `mariadbd`, its tests are skipped, and the run says so. With
ATM_REQUIRE_MARIADB set, as in CI, they fail instead.
"""

from __future__ import annotations

import functools
import getpass
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pymysql
import pytest
from ports import free_port

_SBIN = "/usr/sbin:/usr/local/sbin:/opt/homebrew/bin"
#: It holds what Go-style DSNs have to get through.
PASSWORD = "p@ss:w/rd"


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_SBIN}")


@functools.cache
def mariadb_version() -> str | None:
    """What the server says of itself; None when there is none."""
    program = _find("mariadbd")
    if program is None or _find("mariadb-install-db") is None:
        return None
    return subprocess.check_output([program, "--no-defaults", "--version"], text=True).strip()


def missing_reason() -> str:
    """Why MariaDB's tests do not run, and what to do about it."""
    return "mariadbd is not installed (Debian: apt-get install mariadb-server), so nothing was tried on MySQL"


class MariaDB:
    """A server with a root and an ordinary user. Its commits are durable, as by default."""

    def __init__(self, folder: Path, buffer_pool: str = "64M", flags: Sequence[str] = ()) -> None:
        self._folder = folder
        # In a folder that is shared, one that starts removes the temporary tables of others.
        self._tmp = folder / "tmp"
        self._buffer_pool = buffer_pool
        self._flags = flags
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def install(self) -> None:
        """Makes the data folder."""
        program = _find("mariadb-install-db")
        assert program is not None
        self._tmp.mkdir(exist_ok=True)
        done = subprocess.run(
            [
                *(program, "--no-defaults", f"--datadir={self._folder / 'data'}", "--skip-test-db"),
                *("--auth-root-authentication-method=normal", f"--user={getpass.getuser()}"),
                f"--tmpdir={self._tmp}",
            ],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"MariaDB makes no data folder: {done.stdout[-3000:]}"

    def start(self, *flags: str) -> None:
        """Starts it, with these flags too, and waits until it answers."""
        program = _find("mariadbd")
        assert program is not None
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(program, "--no-defaults", f"--datadir={self._folder / 'data'}", f"--port={self.port}"),
                    f"--tmpdir={self._tmp}",
                    *(
                        f"--socket={self._folder / 'sock'}",
                        "--bind-address=127.0.0.1",
                        f"--user={getpass.getuser()}",
                    ),
                    *(
                        f"--innodb-buffer-pool-size={self._buffer_pool}",
                        "--max-connections=300",
                        "--skip-name-resolve",
                    ),
                    *self._flags,
                    *flags,
                ],
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        for _ in range(300):
            try:
                self.root().close()
                return
            except pymysql.err.OperationalError:
                time.sleep(0.1)
        raise AssertionError(f"MariaDB does not start: {(self._folder / 'log').read_text()[-2000:]}")

    @property
    def pid(self) -> int:
        """The process, while it runs."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """Kills it, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def shut_down(self) -> None:
        """Asks it to stop, and waits until it has."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
        self._process = None

    def root(self) -> pymysql.Connection[pymysql.cursors.Cursor]:
        """A connection that may do everything."""
        return pymysql.connect(host="127.0.0.1", port=self.port, user="root", autocommit=True)

    def create_database(self) -> str:
        """The DSN, in the Go form, of a new and empty database."""
        name = f"atm_{secrets.token_hex(4)}"
        with self.root() as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
            cursor.execute(f"CREATE USER IF NOT EXISTS atm@'%' IDENTIFIED BY '{PASSWORD}'")
            cursor.execute(f"GRANT ALL ON {name}.* TO atm@'%'")
        return f"atm:{PASSWORD}@tcp(127.0.0.1:{self.port})/{name}?parseTime=true&loc=UTC"


def require_mariadb() -> None:
    """Skips the test where there is no MariaDB, or fails it where there must be."""
    if mariadb_version() is None:
        if os.environ.get("ATM_REQUIRE_MARIADB"):
            pytest.fail(missing_reason())
        pytest.skip(missing_reason())


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """One server for all tests that do not break it."""
    require_mariadb()
    server = MariaDB(tmp_path_factory.mktemp("mariadb"))
    server.install()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def own_mariadb(tmp_path: Path) -> Iterator[MariaDB]:
    """A server that the test may stop and start as it likes."""
    require_mariadb()
    server = MariaDB(tmp_path)
    server.install()
    try:
        server.start()
        yield server
    finally:
        server.stop()
