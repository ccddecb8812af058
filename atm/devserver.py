"""Everything in one place, with nothing installed but the package: `atm up`, and the server of `atm demo`."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atm.broker.broker import TaskBroker
from atm.client import Client
from atm.errors import BrokerUnavailableError, DeadlineError, SettingsError, UnavailableError
from atm.processes import python_command
from atm.server.app import run
from atm.settings import Settings
from atm.states import WorkerStatus
from atm.supervisor.supervisor import Supervisor
from atm.supervisor.valkey import socket_path, valkey_command

#: What is meant for this machine listens here.
LOOPBACK = "127.0.0.1"
_START_SECONDS = 30.0
_LOOK_SECONDS = 0.05
#: A worker of a demo has nothing worth waiting for when the demo is over.
_DEMO_DRAIN_SECONDS = 0.5


def up(*, data_dir: Path, **flags: Any) -> int:
    """Runs Valkey, the server and its workers until SIGTERM or SIGINT. Returns the exit code.

    `flags` are settings; see `Settings.load`. It listens on LOOPBACK unless a
    flag or the environment says otherwise. Raises SettingsError, also when the
    folder cannot be used, or is in use already.
    """
    folder = data_dir.expanduser().resolve()
    host = flags.pop("host", None) or os.environ.get("ATM_HOST") or LOOPBACK
    with _locked(folder), socket_path(folder) as socket_file:
        settings = Settings.load(
            **flags,
            host=host,
            redis_addr=f"unix://{quote(str(socket_file))}",
            mysql_dsn=f"sqlite:///{_private(folder / 'atm.db')}",
            upgrade_db=True,
        )
        embedded_redis = Supervisor([valkey_command(folder, socket_file)])
        embedded_redis.start()
        # Until the server has taken over, a signal must not leave Valkey behind.
        signal.signal(signal.SIGTERM, _interrupted)
        try:
            _wait_for_redis(settings.redis_url)
            return run(settings)
        except KeyboardInterrupt:
            return 0
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            embedded_redis.stop()


@contextlib.contextmanager
def embedded(
    workers: int = 2,
    *,
    handlers: Sequence[str] = (),
    python_path: Sequence[str] = (),
    ready: Callable[[str], bool] | None = None,
) -> Iterator[str]:
    """The address of a server in a temporary folder, which is there until the block ends.

    It runs in a process of its own. Its workers import the modules `handlers`,
    which they look for in the folders `python_path` first; without any, what
    the environment says holds. It is awaited until it serves and `ready` is
    true of its address; without one, until its workers run. Raises UnavailableError when it does not come up,
    with what it said.
    """
    environment = {
        **os.environ,
        "ATM_HOST": LOOPBACK,
        "ATM_DRAIN_SECONDS": str(_DEMO_DRAIN_SECONDS),
    }
    if handlers:
        environment["ATM_HANDLERS"] = ",".join(handlers)
    if python_path:
        environment["PYTHONPATH"] = os.pathsep.join(python_path)
    with tempfile.TemporaryDirectory(prefix="atm-") as folder:
        port, worker_port = _free_ports(2)
        log = Path(folder) / "server.log"
        command = python_command(
            "atm.supervisor.leash",
            str(os.getpid()),
            *python_command("atm_cli"),
            *("up", "--data-dir", str(Path(folder) / "data"), "--workers", str(workers)),
            *("--grpc-port", str(port), "--worker-port", str(worker_port)),
        )
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            address = f"127.0.0.1:{port}"
            _wait_until_ready(address, process, log, ready or functools.partial(_has_workers, workers))
            yield address
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps a second server out of the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise SettingsError(f"--data-dir: {folder} cannot be used: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SettingsError(f"--data-dir: {folder} is in use by another `atm up`") from error
        yield


def _private(database: Path) -> Path:
    """The file; neither it nor what SQLite keeps beside it is for others, as an older ATM made them."""
    for file in (database, *(database.with_name(f"{database.name}-{kind}") for kind in ("wal", "shm"))):
        with contextlib.suppress(FileNotFoundError):
            file.chmod(0o600)
    return database


def _wait_for_redis(url: str) -> None:
    end = time.monotonic() + _START_SECONDS
    with contextlib.closing(TaskBroker(url, prefix="")) as broker:
        while True:
            try:
                broker.ping()
                return
            except BrokerUnavailableError as error:
                if time.monotonic() > end:
                    raise UnavailableError(f"the embedded Redis does not start: {error}") from error
                time.sleep(_LOOK_SECONDS)


def _wait_until_ready(
    address: str, process: subprocess.Popen[bytes], log: Path, ready: Callable[[str], bool]
) -> None:
    end = time.monotonic() + _START_SECONDS
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while not (_is_serving(stub) and ready(address)):
            if process.poll() is not None or time.monotonic() > end:
                said = log.read_text(errors="replace")[-2000:]
                raise UnavailableError(f"the embedded server does not start; it said:\n{said}")
            time.sleep(_LOOK_SECONDS)


def _has_workers(count: int, address: str) -> bool:
    with Client(address, retries=False) as client, contextlib.suppress(UnavailableError, DeadlineError):
        return sum(worker.status == WorkerStatus.RUNNING for worker in client.list_workers()) >= count
    return False


def _is_serving(stub: health_pb2_grpc.HealthStub) -> bool:
    try:
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=1.0)
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _interrupted(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
