"""Servers, workers, Redis and SQL as processes of their own, with proxies between, kept running."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from fix_mariadb import MariaDB
from fix_system import TESTS, Process, eventually, wait_until_serving
from fix_valkey import Valkey
from ports import free_port

from atm.client import Client
from atm.errors import ServiceError
from atm.models import Server, Worker
from atm.store import schema_upgrade, servers, workers
from atm.store.database import Database
from atm.store.dsn import parse_sql_dsn
from chaos.proxy import Proxy

_LOOK_SECONDS = 0.1


@dataclass
class Part:
    """One process that is started again whenever it ends, unless it is `held`."""

    name: str
    start: Callable[[], Process]
    process: Process | None = None
    held: bool = False
    #: Of its next start, beside its own.
    environment: dict[str, str] = field(default_factory=dict)

    def replace(self) -> None:
        """It is asked to stop, and another one is started."""
        old = self.process
        assert old is not None
        old.popen.terminate()
        eventually(lambda: self.process is not old, 30, f"{self.name} does not stop")


class Installation:
    """`database` is mariadb or sqlite. Everything goes through proxies: one for each pair that talks.

    `worker_lease` is what ATM_WORKER_LEASE_SECONDS is set to; the default is ATM's own.
    """

    def __init__(
        self,
        folder: Path,
        database: str,
        *,
        server_count: int = 2,
        worker_count: int = 2,
        worker_lease: float = 8.0,
    ) -> None:
        self.folder = folder
        self.kind = database
        self.valkey = Valkey(_made(folder / "valkey"), durable=True)
        self.mariadb = MariaDB(_made(folder / "mariadb")) if database == "mariadb" else None
        self.addresses: list[str] = []
        self.server_sql: Proxy | None = None
        #: One for each worker; none on SQLite.
        self.worker_sql: list[Proxy] = []
        self.worker_lease = worker_lease
        self._server_count = server_count
        self._worker_count = worker_count
        self._parts: list[Part] = []
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def start(self) -> None:
        """Starts everything and waits until it serves."""
        self.valkey.start()
        self.server_redis = _proxy(self.valkey.port)
        self.worker_redis = _proxy(self.valkey.port)
        if self.mariadb is not None:
            self.mariadb.install()
            self.mariadb.start()
            direct = self.mariadb.create_database()
            self.server_sql = _proxy(self.mariadb.port)
            self.worker_sql = [_proxy(self.mariadb.port) for _ in range(self._worker_count)]
            via = lambda proxy: direct.replace(f":{self.mariadb.port})", f":{proxy.port})")  # noqa: E731
            server_dsn, worker_dsns = via(self.server_sql), [via(proxy) for proxy in self.worker_sql]
        else:
            direct = server_dsn = f"sqlite:///{self.folder / 'atm.db'}"
            worker_dsns = [direct] * self._worker_count
        schema_upgrade.upgrade(parse_sql_dsn(direct))
        # The checker's own way to SQL: no fault is in it.
        self.database = Database(parse_sql_dsn(direct), pool_size=8)
        for number in range(1, self._server_count + 1):
            self._add_server(number, server_dsn)
        for number, worker_dsn in enumerate(worker_dsns, 1):
            self._add_worker(number, worker_dsn)
        for part in self._parts:
            part.process = part.start()
        self._keeper.start()
        for part, address in zip(self._parts, self.addresses, strict=False):
            assert part.process is not None
            wait_until_serving(address, part.process)
        eventually(lambda: len(self.workers()) >= self._worker_count, 30, "the workers do not come up")

    def stop(self) -> None:
        """Kills everything."""
        self._stopping.set()
        self._keeper.join(10)
        for part in self._parts:
            if part.process is not None:
                part.process.kill()
        self.database.close()
        self.valkey.stop()
        if self.mariadb is not None:
            self.mariadb.stop()
        for proxy in self.proxies():
            proxy.stop()

    # -- what there is --------------------------------------------------------

    def proxies(self) -> list[Proxy]:
        """The network."""
        found = [self.server_redis, self.worker_redis, *self.worker_sql]
        return found if self.server_sql is None else [*found, self.server_sql]

    def workers(self) -> list[Worker]:
        """The worker processes that SQL knows and that live."""
        found = self.database.read(workers.all_workers)
        return [worker for worker in found if psutil.pid_exists(worker.pid)]

    def leader(self) -> Server | None:
        """The server that leads, if it lives."""
        found, leader = self.database.read(lambda c: (servers.all_servers(c), servers.leader(c)))
        leading = [s for s in found if s.instance_id == leader.instance_id and psutil.pid_exists(s.pid)]
        return leading[0] if leading else None

    def live_servers(self) -> list[Server]:
        """The servers that SQL knows and that live."""
        return [server for server in self.database.read(servers.all_servers) if psutil.pid_exists(server.pid)]

    def forget_redis(self) -> None:
        """Deletes what Redis has on disk, while it is stopped."""
        for pattern in ("*.aof*", "*.manifest"):
            for file in (self.folder / "valkey").rglob(pattern):
                if file.is_file():
                    file.unlink()

    def server_parts(self) -> list[Part]:
        """The servers."""
        return [part for part in self._parts if part.name.startswith("server")]

    def worker_parts(self) -> list[Part]:
        """The workers' master processes."""
        return [part for part in self._parts if part.name.startswith("worker")]

    @contextlib.contextmanager
    def client(self, number: int = 0) -> Iterator[Client]:
        """A client of one server."""
        with Client(self.addresses[number % len(self.addresses)]) as made:
            yield made

    def probe(self, within: float = 60.0) -> float:
        """How many seconds it takes until a new task is accepted and succeeds."""
        began = time.monotonic()
        end = began + within
        while True:
            try:
                with self.client() as client:
                    task = client.create_task("chaos_quick", {"probe": "1"}, deadline=5)
                    client.wait_for_task(task.task_id, max(1.0, end - time.monotonic()))
                return time.monotonic() - began
            except ServiceError:
                assert time.monotonic() < end, f"not well within {within} s"
                time.sleep(0.1)

    # -- parts ----------------------------------------------------------------

    def _environment(self, redis: Proxy, dsn: str) -> dict[str, str]:
        return {
            "REDIS_ADDR": redis.address,
            "MYSQL_DSN": dsn,
            "ATM_HANDLERS": "chaos_handlers",
            "ATM_HOST": "127.0.0.1",
            "ATM_DRAIN_SECONDS": "5",
            "ATM_WORKER_LEASE_SECONDS": str(self.worker_lease),
            "PYTHONPATH": str(TESTS),
            "SCRATCH": str(self.folder),
        }

    def _add_server(self, number: int, dsn: str) -> None:
        port, worker_port = free_port(), free_port()
        self.addresses.append(f"127.0.0.1:{port}")
        arguments = [sys.executable, "-m", "atm_cli", "server", "--id", f"server-{number}"]
        arguments += ["--grpc-port", str(port), "--worker-port", str(worker_port)]
        self._add(f"server-{number}", arguments, self._environment(self.server_redis, dsn))

    def _add_worker(self, number: int, dsn: str) -> None:
        # The program: Dramatiq finds its module only by PATH when it begins anew.
        dramatiq = str(Path(sys.executable).with_name("dramatiq"))
        arguments = [dramatiq, "atm.actors", "-p", "1", "-t", "4"]
        self._add(f"worker-{number}", arguments, self._environment(self.worker_redis, dsn))

    def _add(self, name: str, arguments: list[str], environment: dict[str, str]) -> None:
        log = self.folder / f"{name}.log"
        part = Part(name, lambda: Process(arguments, {**environment, **part.environment}, log))
        self._parts.append(part)

    def _keep(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            for part in self._parts:
                ended = part.process is None or part.process.popen.poll() is not None
                if ended and not part.held:
                    part.process = part.start()


class Journal:
    """What handlers wrote themselves: (time in ns, start or end, task, attempt).

    They write monotonic times: the clock of their process may be off.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "journal"
        self._offset = time.time_ns() - time.monotonic_ns()

    def entries(self) -> list[tuple[int, str, str, int]]:
        """All of it, by time."""
        if not self._path.exists():
            return []
        rows = (line.split() for line in self._path.read_text().splitlines())
        return sorted((int(at) + self._offset, what, task, int(attempt)) for at, what, task, attempt in rows)


def send_signal(pid: int, number: int) -> None:
    """A signal to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def freeze(pids: list[int], seconds: float) -> None:
    """SIGSTOP, and SIGCONT later."""
    for pid in pids:
        send_signal(pid, signal.SIGSTOP)
    time.sleep(seconds)
    for pid in pids:
        send_signal(pid, signal.SIGCONT)


def _proxy(port: int) -> Proxy:
    proxy = Proxy(port)
    proxy.start()
    return proxy


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
