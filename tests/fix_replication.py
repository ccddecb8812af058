"""A MariaDB primary with a replica, behind an address that leads to whichever is the primary."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest
from chaos.proxy import Proxy
from fix_mariadb import MariaDB, require_mariadb
from fix_system import eventually

_REPLICATED = ("--log-bin=bin", "--log-slave-updates=ON", "--binlog-format=ROW", "--sync-binlog=1")
#: A commit is answered when the replica has it in its relay log, however long that takes.
_SEMI_SYNC = (
    *("--rpl-semi-sync-slave-enabled=ON", "--rpl-semi-sync-master-wait-point=AFTER_SYNC"),
    "--rpl-semi-sync-master-timeout=86400000",
)
#: Only on the primary: a replica that waits for a replica applies nothing.
_WAIT_FOR_REPLICA = "SET GLOBAL rpl_semi_sync_master_enabled = 1"


class Replicated:
    """Two servers, semi-synchronous, and a proxy that new connections go through to the primary.

    Connections that are open stay open when it leads elsewhere, as with
    HAProxy, a moved address or a name that now means another host.
    """

    def __init__(self, folder: Path) -> None:
        self.servers: list[MariaDB] = []
        for number in (1, 2):
            (folder / f"server{number}").mkdir()
            flags = (*_REPLICATED, *_SEMI_SYNC, f"--server-id={number}")
            self.servers.append(MariaDB(folder / f"server{number}", flags=flags))
        self.primary, self.replica = self.servers
        self.proxy = Proxy(self.primary.port)

    def start(self) -> None:
        """Returns when the replica follows the primary."""
        for server in self.servers:
            server.install()
            server.start()
        _do(self.replica, "RESET MASTER")
        _do(self.primary, "RESET MASTER", "CREATE USER copier@'%' IDENTIFIED BY 'copier'")
        _do(self.primary, "GRANT REPLICATION SLAVE ON *.* TO copier@'%'")
        self._follow(self.replica, self.primary)
        _do(self.primary, _WAIT_FOR_REPLICA)
        self._is_followed(self.primary)
        self.proxy.start()

    def stop(self) -> None:
        """Kills both."""
        self.proxy.stop()
        for server in self.servers:
            server.stop()

    def create_database(self) -> str:
        """The DSN of a new database, through the proxy."""
        dsn = self.primary.create_database()
        return dsn.replace(f":{self.primary.port})", f":{self.proxy.port})")

    def switch(self) -> None:
        """A planned switch: the primary becomes the replica, and stays up; nothing is lost."""
        old, new = self.primary, self.replica
        _do(old, "SET GLOBAL read_only = 1")
        (position,) = _ask(old, "SELECT @@gtid_binlog_pos")
        assert _ask(new, f"SELECT MASTER_GTID_WAIT('{position}', 60)") == (0,), "the replica does not follow"
        _do(new, _WAIT_FOR_REPLICA)
        self._promote(new)
        self._follow(old, new)
        self._is_followed(new)
        self.primary, self.replica = new, old

    def fail_over(self) -> None:
        """The primary is killed, and the replica takes its place with what it has got; it has none itself."""
        self.primary.stop()
        eventually(lambda: _has_applied_all(self.replica), what="the replica does not apply what it has got")
        self._promote(self.replica)
        self.primary, self.replica = self.replica, self.primary

    def sessions(self, server: MariaDB) -> int:
        """How many of ATM's are open there."""
        (count,) = _ask(server, "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'atm'")
        return int(str(count))

    def _promote(self, server: MariaDB) -> None:
        _do(server, "STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = 0")
        self.proxy.lead_to(server.port)

    def _follow(self, server: MariaDB, primary: MariaDB) -> None:
        _do(
            server,
            "SET GLOBAL read_only = 1",
            # It writes what it applies into a log of its own, and would wait for a replica of its own.
            "SET GLOBAL rpl_semi_sync_master_enabled = 0",
            "SET GLOBAL gtid_slave_pos = @@gtid_current_pos",
            f"CHANGE MASTER TO master_host='127.0.0.1', master_port={primary.port}, master_user='copier', "
            "master_password='copier', master_connect_retry=1, master_use_gtid=slave_pos",
            "START SLAVE",
        )
        eventually(lambda: _status(server)["Slave_IO_Running"] == "Yes", what=f"{_status(server)}")

    def _is_followed(self, primary: MariaDB) -> None:
        for name, value in (("status", "ON"), ("clients", "1")):
            question = f"SHOW STATUS LIKE 'Rpl_semi_sync_master_{name}'"
            eventually(lambda q=question, v=value: _ask(primary, q)[1] == v, what=question)  # type: ignore[misc]


def _do(server: MariaDB, *statements: str) -> None:
    with server.root() as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _ask(server: MariaDB, question: str) -> tuple[object, ...]:
    with server.root() as connection, connection.cursor() as cursor:
        cursor.execute(question)
        return tuple(cursor.fetchone() or ())


def _status(server: MariaDB) -> dict[str, object]:
    with server.root() as connection, connection.cursor(pymysql.cursors.DictCursor) as cursor:
        cursor.execute("SHOW SLAVE STATUS")
        return dict(cursor.fetchone() or {})


def _has_applied_all(server: MariaDB) -> bool:
    found = _status(server)
    return found["Read_Master_Log_Pos"] == found["Exec_Master_Log_Pos"]


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[Replicated]:
    """A pair of the test's own."""
    require_mariadb()
    made = Replicated(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()
