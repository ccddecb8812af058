"""A Galera cluster on private ports and folders, whose nodes a test isolates from each other as it likes.

Where the provider's library is missing, its tests are skipped. With
ATM_REQUIRE_GALERA set, as in CI, they fail instead.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest
from fix_mariadb import MariaDB, require_mariadb
from fix_system import eventually
from ports import free_port

#: Of a cluster that may lose any one of them: the others are more than half.
NODES = 3
#: What a node keeps for those that come back: with less it would send them everything that it has.
_CACHE = "gcache.size=32M"
#: How long others may be silent until they count as gone; by default 5 s.
_SUSPECT = "evs.suspect_timeout=PT3S"
#: Who comes back asks with them for what it has missed.
_PROGRAMS = ("mariadb-backup", "socat")
_NOT_COPIED = shutil.ignore_patterns("gvwstate.dat", "galera.cache", "*.pid", "sock*", "log")


def _provider() -> Path | None:
    found = sorted(Path("/usr").glob("lib*/galera*/libgalera_smm.so"))
    return found[0] if found else None


def missing_reason() -> str:
    """Why no Galera cluster was tried, and what to do about it."""
    how = "apt-get install galera-4 mariadb-backup socat"
    return f"Galera is not installed (Debian: {how}), so no node was isolated"


def require_galera() -> None:
    """Skips the test where there is no Galera, or fails it where there must be."""
    require_mariadb()
    if _provider() is None or not all(map(shutil.which, _PROGRAMS)):
        if os.environ.get("ATM_REQUIRE_GALERA"):
            pytest.fail(missing_reason())
        pytest.skip(missing_reason())


class Node(MariaDB):
    """One server of a cluster."""

    def __init__(self, folder: Path, group_port: int) -> None:
        options = ";".join(
            [
                *(f"base_host=127.0.0.1;base_port={group_port}", _CACHE, _SUSPECT),
                f"gmcast.listen_addr=tcp://127.0.0.1:{group_port}",
                f"ist.recv_addr=127.0.0.1:{free_port()}",
            ]
        )
        flags = [
            *("--wsrep-on=ON", f"--wsrep-provider={_provider()}", f"--wsrep-provider-options={options}"),
            *(f"--wsrep-node-name={folder.name}", f"--wsrep-node-address=127.0.0.1:{group_port}"),
            *(
                "--wsrep-sst-method=mariabackup",
                "--wsrep-sst-auth=root:",
                f"--wsrep-sst-receive-address=127.0.0.1:{free_port()}",
            ),
            *("--binlog-format=ROW", "--innodb-autoinc-lock-mode=2", "--innodb-log-file-size=16M"),
        ]
        super().__init__(folder, flags=flags)
        self.folder = folder

    def dsn_of(self, dsn: str) -> str:
        """The DSN that leads to the same database here."""
        return re.sub(r"(@tcp\(127\.0\.0\.1:)\d+\)", rf"\g<1>{self.port})", dsn)

    def isolate(self) -> None:
        """The node hears nobody any more, and has lost its primary component when this returns."""
        self._set_isolated(1)
        eventually(lambda: not self.is_ready(), what="the node is still ready")

    def come_back(self) -> None:
        """It hears the others again, and has what they have when this returns."""
        self._set_isolated(0)
        eventually(self.is_ready, what="the node does not come back")

    def is_ready(self) -> bool:
        """Whether it has a primary component, and answers."""
        try:
            return self.status("wsrep_ready") == "ON"
        except pymysql.err.MySQLError:
            return False

    def status(self, name: str) -> str:
        """A status variable."""
        with self.root() as connection, connection.cursor() as cursor:
            cursor.execute("SHOW GLOBAL STATUS LIKE %s", (name,))
            row = cursor.fetchone()
        assert row is not None, f"there is no {name}"
        return str(row[1])

    def _set_isolated(self, isolated: int) -> None:
        with self.root() as connection, connection.cursor() as cursor:
            cursor.execute(f"SET GLOBAL wsrep_provider_options='gmcast.isolate={isolated}'")


class Galera:
    """Three nodes with the same data."""

    def __init__(self, folder: Path) -> None:
        ports = [free_port() for _ in range(NODES)]
        self._address = "gcomm://" + ",".join(f"127.0.0.1:{port}" for port in ports)
        self.nodes: list[Node] = []
        for number, port in enumerate(ports):
            (folder / f"node{number}").mkdir()
            self.nodes.append(Node(folder / f"node{number}", port))

    def start(self) -> None:
        """Returns when every node is there, and ready."""
        first, *others = self.nodes
        first.install()
        self._found(first)
        first.shut_down()
        # Copied, they need not be sent each other's data.
        for node in others:
            shutil.copytree(first.folder, node.folder, ignore=_NOT_COPIED, dirs_exist_ok=True)
        self._found(first)
        for node in others:
            node.start(f"--wsrep-cluster-address={self._address}")
        for node in self.nodes:
            eventually(
                lambda node=node: node.is_ready() and node.status("wsrep_cluster_size") == str(NODES),  # type: ignore[misc]
                what="a node does not join",
            )

    def _found(self, node: Node) -> None:
        node.start("--wsrep-new-cluster", f"--wsrep-cluster-address={self._address}")

    def stop(self) -> None:
        """Kills all nodes."""
        for node in self.nodes:
            node.stop()


@pytest.fixture(scope="module")
def galera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Galera]:
    """One cluster for the tests of a module, which leave every node ready."""
    require_galera()
    cluster = Galera(tmp_path_factory.mktemp("galera"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
