"""What "OK means committed" outlives, by the settings of the database: read, and judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import URL, Connection

from atm.store.database import Database

#: A semi-synchronous primary that waits for no longer answers commits that no replica has.
_LONG_ENOUGH_MS = 24 * 3600 * 1000
#: By these words in its version: each commit is on most of the nodes before it is answered.
_BY_CONSENSUS = {"tidb": "TiDB", "oceanbase": "OceanBase", "seekdb": "OceanBase's engine"}
_VARIABLES = (
    *("version", "version_comment", "innodb_flush_log_at_trx_commit", "log_bin", "sync_binlog"),
    *("wsrep_on", "group_replication_group_name"),
    *("rpl_semi_sync_master_enabled", "rpl_semi_sync_master_timeout", "rpl_semi_sync_master_wait_point"),
    *("rpl_semi_sync_source_enabled", "rpl_semi_sync_source_timeout", "rpl_semi_sync_source_wait_point"),
)
_STATUS = (
    *("wsrep_cluster_size", "slaves_connected", "rpl_semi_sync_master_status", "rpl_semi_sync_source_status"),
    *("rpl_semi_sync_master_clients", "rpl_semi_sync_source_clients"),
)


@dataclass(frozen=True)
class Finding:
    """What was looked at, whether it is as it should be, what was found, and what to do."""

    check: str
    is_fine: bool
    found: str
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def look(url: URL) -> list[Finding]:
    """Reads the settings and judges them. Raises UnavailableError."""
    # Opening it would make the file.
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return [Finding("the database", False, "there is none yet", "run `atm db upgrade`")]
    database = Database(url, pool_size=1)
    try:
        return database.read(_of_sqlite if url.get_backend_name() == "sqlite" else _of_mysql)
    finally:
        database.close()


def _of_mysql(connection: Connection) -> list[Finding]:
    return judge(_read(connection, "VARIABLES", _VARIABLES), _read(connection, "STATUS", _STATUS))


def _of_sqlite(connection: Connection) -> list[Finding]:
    # ATM sets it for each connection.
    level = connection.execute(text("PRAGMA synchronous")).scalar()
    found = f"SQLite writes each commit to the disk before it is answered (synchronous={level})"
    return [Finding("a crash of the machine", level in (2, 3), found)]


def _read(connection: Connection, what: str, names: tuple[str, ...]) -> dict[str, str]:
    rows = connection.execute(text(f"SHOW GLOBAL {what} WHERE Variable_name IN {names}"))
    return {str(name).lower(): str(value) for name, value in rows}


def judge(variables: Mapping[str, str], status: Mapping[str, str]) -> list[Finding]:
    """What the settings of a server that speaks MySQL's protocol mean; the names are in lower case."""
    said = f"{variables.get('version', '')} {variables.get('version_comment', '')}".lower()
    for word, name in _BY_CONSENSUS.items():
        if word in said:
            return [
                Finding(
                    "the loss of a node",
                    True,
                    f"{name}: a commit is on most nodes before it is answered; with one node, on its disk",
                )
            ]
    return [_crash(variables), *_binary_log(variables), _loss_of_primary(variables, status)]


def _crash(variables: Mapping[str, str]) -> Finding:
    value = variables.get("innodb_flush_log_at_trx_commit", "1")
    what = "a crash of the machine" if value == "2" else "a crash of the database"
    if value in ("1", "3"):
        found = "each commit is on the disk before it is answered"
        return Finding("a crash of the machine", True, f"{found} (innodb_flush_log_at_trx_commit={value})")
    found = f"takes up to a second of commits with it (innodb_flush_log_at_trx_commit={value})"
    return Finding(what, False, found, "set innodb_flush_log_at_trx_commit=1")


def _binary_log(variables: Mapping[str, str]) -> list[Finding]:
    if not _is_on(variables.get("log_bin")):
        return []
    every = variables.get("sync_binlog", "1")
    if every == "1":
        return [Finding("the binary log", True, "it is on the disk with each commit (sync_binlog=1)")]
    found = f"after a crash it may lack commits, and so do replicas (sync_binlog={every})"
    return [Finding("the binary log", False, found, "set sync_binlog=1")]


def _loss_of_primary(variables: Mapping[str, str], status: Mapping[str, str]) -> Finding:
    check = "the loss of the primary"
    if _is_on(variables.get("wsrep_on")):
        nodes = int(status.get("wsrep_cluster_size", "0"))
        found = f"Galera: each node has a commit before it is answered ({nodes} nodes)"
        advice = "" if nodes >= 3 else "have three nodes: of two, neither goes on without the other"
        return Finding(check, nodes >= 3, found, advice)
    if variables.get("group_replication_group_name"):
        return Finding(check, True, "Group Replication: most members have a commit before it is answered")
    for role in ("source", "master"):
        if _is_on(variables.get(f"rpl_semi_sync_{role}_enabled")):
            return _semi_sync(check, role, variables, status)
    replicas = int(status.get("slaves_connected", "0"))
    if replicas or _is_on(variables.get("log_bin")):
        found = (
            f"commits are answered before a replica has them ({replicas} connected): what is not there yet "
        )
        advice = "use semi-synchronous replication, Galera or Group Replication (docs/engines.md)"
        return Finding(check, False, found + "is lost when it takes over", advice)
    return Finding(
        check, False, "a single server: its disk holds the only copy", "have a replica, or backups"
    )


def _semi_sync(check: str, role: str, variables: Mapping[str, str], status: Mapping[str, str]) -> Finding:
    name = f"rpl_semi_sync_{role}"
    if not _is_on(status.get(f"{name}_status")) or status.get(f"{name}_clients", "0") == "0":
        found = "semi-synchronous replication is on, but no replica takes part: commits do not wait"
        return Finding(check, False, found, "start a replica with the semi-synchronous plugin switched on")
    if variables.get(f"{name}_wait_point", "AFTER_SYNC").upper() != "AFTER_SYNC":
        found = "others see a commit before a replica has it"
        return Finding(check, False, found, f"set {name}_wait_point=AFTER_SYNC")
    waits = int(variables.get(f"{name}_timeout", "10000"))
    if waits < _LONG_ENOUGH_MS:
        found = f"after {waits / 1000:g} s without a replica commits are answered that only the primary has"
        return Finding(check, False, found, f"set {name}_timeout={_LONG_ENOUGH_MS} (a day), or more")
    return Finding(check, True, "semi-synchronous: a replica has a commit before it is answered")


def _is_on(value: str | None) -> bool:
    return (value or "").upper() in ("ON", "1")
