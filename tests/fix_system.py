"""Whole systems: servers and workers as processes of their own, as in production."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import grpc
import pytest
from fix_sql import BACKENDS, new_dsn
from fix_valkey import Valkey
from grpc_health.v1 import health_pb2, health_pb2_grpc
from history import check_history
from measured import MEASURED
from ports import free_port

from atm.client import Client
from atm.store import schema_upgrade
from atm.store.database import Database
from atm.store.dsn import parse_sql_dsn

T = TypeVar("T")
TESTS = Path(__file__).parent
#: Where the processes of a system find handlers, and how to end when they are measured.
PYTHONPATH = (str(TESTS), str(TESTS / "measured_processes")) if MEASURED else (str(TESTS),)
#: How long a test waits for what takes a moment. Only one that fails waits for so long, so it promises
#: nothing about time, and suffices on a machine that is busy with other things.
PATIENCE_SECONDS = 60.0
#: How long a process that is measured gets to end by itself: killed, it tells nothing of what it has run.
END_SECONDS = 5.0


def eventually(
    probe: Callable[[], T | Literal[False] | None], within: float = PATIENCE_SECONDS, what: str = ""
) -> T:
    """What `probe` returns, once it is true; fails when it is not within this many seconds."""
    end = time.monotonic() + within
    while not (value := probe()):
        assert time.monotonic() < end, what or f"not within {within} s: {probe}"
        time.sleep(0.02)
    return value


class Process:
    """A process whose output goes to a file, and that leads a group of its own."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        # Where it serves, if it does.
        self.address = ""
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                arguments,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def output(self) -> str:
        """What it has said."""
        return self.log.read_text(errors="replace")

    def terminate(self, within: float = PATIENCE_SECONDS) -> int:
        """Asks it to stop; its exit code."""
        self.popen.terminate()
        return self.popen.wait(within)

    def group_runs(self) -> bool:
        """Whether it, or anything in its group, still runs."""
        self.popen.poll()
        try:
            os.killpg(self.popen.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL for it and everything in its group."""
        self.signal_group(signal.SIGKILL)
        self.popen.wait()

    def signal_group(self, number: signal.Signals) -> None:
        """Sends it to the process and everything in its group, as far as they run."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, number)


#: What makes a new process measure what it runs, where it is set.
COVERAGE = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")


class System:
    """One Redis prefix, one database, and the servers and workers on them."""

    def __init__(
        self, folder: Path, redis_addr: str, dsn: str, environment: dict[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.dsn = dsn
        self.redis_addr = redis_addr
        self.prefix = f"t{secrets.token_hex(4)}"
        self.environment = {
            "REDIS_ADDR": redis_addr,
            "MYSQL_DSN": dsn,
            "ATM_REDIS_PREFIX": self.prefix,
            "ATM_HANDLERS": "sample_handlers",
            "ATM_HOST": "127.0.0.1",
            "PYTHONPATH": os.pathsep.join(PYTHONPATH),
            "SCRATCH": str(folder),
            # What they run is measured on one database: to measure takes a third longer.
            **({} if dsn.startswith("sqlite") else dict.fromkeys(COVERAGE, "")),
            **(environment or {}),
        }
        self.address = ""
        self._processes: list[Process] = []
        self._clients: list[Client] = []
        schema_upgrade.upgrade(parse_sql_dsn(dsn))
        self.database = Database(parse_sql_dsn(dsn), pool_size=4)

    def start_server(
        self, *flags: str, environment: dict[str, str] | None = None, wait: bool = True
    ) -> Process:
        """Starts a server and waits until it serves. `address` is the newest one's."""
        port, worker_port = free_port(), free_port()
        arguments = [sys.executable, "-m", "atm_cli", "server"]
        arguments += ["--grpc-port", str(port), "--worker-port", str(worker_port), *flags]
        server = self._start(arguments, environment or {}, f"server-{port}.log")
        self.address = server.address = f"127.0.0.1:{port}"
        if wait:
            wait_until_serving(self.address, server)
        return server

    def start_worker(
        self,
        threads: int = 4,
        processes: int = 1,
        environment: dict[str, str] | None = None,
        wait: bool = True,
        program: Sequence[str] = (sys.executable, "-m", "dramatiq"),
    ) -> Process:
        """Starts `dramatiq atm.actors` and waits until its workers are in the registry."""
        # By their ids: one that was there may be given up on meanwhile.
        before = self._workers()
        arguments = [*program, "atm.actors", "-p", str(processes), "-t", str(threads)]
        worker = self._start(arguments, environment or {}, f"worker-{secrets.token_hex(3)}.log")
        if wait:
            eventually(
                lambda: len(self._workers() - before) >= processes or worker.popen.poll() is not None,
                what="the worker does not come up",
            )
            assert worker.popen.poll() is None, worker.output()
        return worker

    def client(self) -> Client:
        """A client of the newest server."""
        client = Client(self.address)
        self._clients.append(client)
        return client

    def _workers(self) -> set[str]:
        """The ids of those in the registry."""
        from atm.store import workers

        return {worker.worker_id for worker in self.database.read(workers.all_workers)}

    def _start(self, arguments: list[str], environment: dict[str, str], log: str) -> Process:
        process = Process(arguments, {**self.environment, **environment}, self.folder / log)
        self._processes.append(process)
        return process

    def stop(self) -> None:
        """Kills everything."""
        self.kill_processes()
        for client in self._clients:
            client.close()
        self.database.close()

    def kill_processes(self) -> None:
        """Kills every server and worker."""
        if MEASURED:
            _let_end(self._processes)
        for process in self._processes:
            process.kill()

    def let_go(self, name: str) -> None:
        """Ends the tasks of type `hold` that work until `name`."""
        (self.folder / name).touch()

    def marks(self, task_id: str) -> list[str]:
        """What the handler of a task has left in its file."""
        file = self.folder / f"{task_id}.marks"
        return file.read_text().splitlines() if file.exists() else []

    def starts(self) -> Counter[str]:
        """How often the handler of `note_start` has begun, by the ids of its tasks."""
        return Counter(line.split()[1] for line in (self.folder / "starts").read_text().splitlines())

    def check_starts(self, created: Iterable[str]) -> None:
        """Fails unless exactly these tasks have run, and no attempt of them more than once.

        A call that made a second task when it was tried again shows here, too.
        """
        starts, client = self.starts(), self.client()
        assert set(starts) == set(created)
        twice = [task_id for task_id, times in starts.items() if times > client.get_task(task_id).attempt]
        assert not twice, "an attempt ran twice"

    def check_history(self) -> None:
        """Fails unless every task's history is a legal one."""
        check_history(self.database)


def _let_end(processes: list[Process]) -> None:
    """Has all of them, and what they have started, tell what they have run; and gives them a moment to."""
    for process in processes:
        process.signal_group(signal.SIGUSR1)
    end = time.monotonic() + END_SECONDS
    for process in processes:
        while process.group_runs() and time.monotonic() < end:
            time.sleep(0.02)


def wait_until_serving(address: str, process: Process) -> None:
    """Returns when the health service says SERVING."""
    # By itself gRPC waits for a second before it tries to connect again.
    options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100)]
    with grpc.insecure_channel(address, options) as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        def serving() -> bool:
            assert process.popen.poll() is None, process.output()
            try:
                answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
            except grpc.RpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

        eventually(serving, what="the server does not come up")


def health(address: str, service: str) -> int:
    """What the health service says of a service (see atm.server.readiness); UNKNOWN before its first look."""
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            return int(health_pb2_grpc.HealthStub(channel).Check(request, timeout=5).status)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return int(health_pb2.HealthCheckResponse.UNKNOWN)


@pytest.fixture(params=BACKENDS)
def new_system(request: pytest.FixtureRequest, tmp_path: Path, valkey: Valkey) -> Iterator[System]:
    """A system of the test's own, without processes yet, on each database in turn."""
    made = System(tmp_path, valkey.address, new_dsn(request.param, request, tmp_path))
    yield made
    made.stop()


@pytest.fixture
def lone_system(tmp_path: Path, valkey: Valkey) -> Iterator[System]:
    """The same on SQLite alone, for what concerns processes and signals; it has the handlers that hurt."""
    made = System(tmp_path, valkey.address, f"sqlite:///{tmp_path / 'atm.db'}")
    made.environment["ATM_HANDLERS"] = "sample_handlers,life_handlers"
    yield made
    made.stop()


StartProcess = Callable[..., Process]


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[StartProcess]:
    """Starts a process that belongs to no system; what still runs when the test is over is killed."""
    started: list[Process] = []

    def start(arguments: list[str], environment: dict[str, str] | None = None) -> Process:
        process = Process(arguments, environment or {}, tmp_path / f"process-{len(started)}.log")
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


@pytest.fixture(scope="module", params=BACKENDS)
def system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, valkey: Valkey
) -> Iterator[System]:
    """A server and a worker of four threads for all tests of a module, on each database in turn.

    When the module is done, every history in it must be legal.
    """
    folder = tmp_path_factory.mktemp("system")
    made = System(folder, valkey.address, new_dsn(request.param, request, folder))
    try:
        made.start_server()
        made.start_worker(threads=4)
        yield made
        # Nothing changes any more while it is checked.
        made.kill_processes()
        made.check_history()
    finally:
        made.stop()


@pytest.fixture
def client(system: System) -> Client:
    """A client of the module's server."""
    return system.client()
