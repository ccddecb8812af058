"""What is measured, as processes of its own: Valkey, MariaDB, ATM's servers and workers, and the load."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
from fix_mariadb import MariaDB
from fix_system import TESTS, Process, System, wait_until_serving
from fix_valkey import Valkey
from ports import free_port
from sqlalchemy import func, select, text

from atm.store import types
from atm.store.tasks import TASK

ROOT = TESTS.parent
#: What every process that is measured is given.
PATHS = f"{TESTS}:{ROOT}"


class Installation:
    """One Valkey and one MariaDB, with durable settings, for all that is measured in a run."""

    def __init__(self, folder: Path, buffer_pool: str = "1G") -> None:
        self.folder = folder
        for name in ("valkey", "mariadb"):
            (folder / name).mkdir()
        self.valkey = Valkey(folder / "valkey")
        #: What ATM is given; another one may take its place.
        self.redis_addr = self.valkey.address
        self.mariadb = MariaDB(folder / "mariadb", buffer_pool)
        self._count = 0
        self._processes: list[Process] = []

    def start(self) -> None:
        """Starts both."""
        self.valkey.start()
        self.mariadb.install()
        self.mariadb.start()

    def stop(self) -> None:
        """Stops them, and what was started here."""
        for process in self._processes:
            process.kill()
        self.valkey.stop()
        self.mariadb.stop()

    def new_folder(self) -> Path:
        """A folder that nobody else has."""
        self._count += 1
        folder = self.folder / str(self._count)
        folder.mkdir()
        return folder

    def run(self, arguments: list[str], environment: dict[str, str], name: str) -> Process:
        """A process that ends with this installation."""
        process = Process(
            [sys.executable, *arguments], {"PYTHONPATH": PATHS, **environment}, self.folder / f"{name}.log"
        )
        self._processes.append(process)
        return process

    def empty_server(self, *flags: str) -> tuple[str, Process]:
        """A server whose handlers do nothing; its address."""
        port = free_port()
        process = self.run(["-m", "benchmarks.empty_server", str(port), *flags], {}, f"empty-{port}")
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with suppress(AssertionError):
                _knock(port)
                return f"127.0.0.1:{port}", process
            time.sleep(0.05)
        raise AssertionError("the empty server does not start")


def _knock(port: int) -> None:
    import socket

    with socket.socket() as knocking:
        assert knocking.connect_ex(("127.0.0.1", port)) == 0


class Atm(System):
    """ATM on a database of its own, with the benchmark's handlers."""

    def __init__(self, installation: Installation) -> None:
        folder = installation.new_folder()
        self.starts = folder / "starts"
        super().__init__(
            folder,
            installation.redis_addr,
            installation.mariadb.create_database(),
            {"ATM_HANDLERS": "benchmarks.handlers", "BENCH_STARTS": str(self.starts), "PYTHONPATH": PATHS},
        )
        self.redis = redis.Redis.from_url(installation.valkey.url)
        # So that tasks can be created before a worker is there.
        for task_type in ("bench", "bench_10ms"):
            types.announce(self.database, task_type, {"max_retry": 0, "default_timeout_ms": 0})

    def count(self, **columns: Any) -> int:
        """How many tasks there are with these values."""
        query = select(func.count()).select_from(TASK).where(*(TASK.c[n] == v for n, v in columns.items()))
        return int(self.database.read(lambda connection: connection.execute(query).scalar_one()))

    def newest(self, column: str) -> Any:
        """The greatest value of a column."""
        query = select(func.max(TASK.c[column]))
        return self.database.read(lambda connection: connection.execute(query).scalar_one())

    def forget_tasks(self) -> None:
        """Empties the tables."""
        for table in ("task", "task_log"):
            statement = text(f"TRUNCATE TABLE {table}")
            self.database.write(lambda connection, statement=statement: connection.execute(statement))  # type: ignore[misc]


def load(call: str, address: str, **options: Any) -> dict[str, float]:
    """What benchmarks.load measures."""
    flags = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", call, address, *flags],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


__all__ = ["Atm", "Installation", "load", "wait_until_serving"]
