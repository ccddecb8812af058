"""How connections to MySQL, MariaDB and SQLite are made, and what is asked of one before it is used again."""

from __future__ import annotations

import os
import sqlite3
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pymysql
import stamina
from pymysql.constants import CLIENT
from sqlalchemy import create_engine, event, exc
from sqlalchemy.engine import URL, Connection, Engine

from atm.errors import PacketTooLargeError, SettingsError
from atm.host_port import split_host_port

READ_ONLY = "atm_read_only"
#: The part of a URL's query that names more hosts, with commas between.
HOSTS = "atm_hosts"
#: ... and the part that is false where a packet must hold one statement only; Go's driver calls it so.
MULTI_STATEMENTS = "multiStatements"

#: How long a statement of SQLite waits for the lock.
_SQLITE_BUSY_MS = 10_000
#: MySQL closes idle connections after 8 hours; many a proxy after less.
_RECYCLE_SECONDS = 280
_CONNECT_SECONDS = 5
#: A server that is frozen, or a network that swallows packets, must not hold a thread for ever.
_ANSWER_SECONDS = 30
#: Shorter, so that the server gives up first, and says why.
_LOCK_WAIT_SECONDS = 10
#: A connection that was used within this time is taken to be there still.
_FRESH_SECONDS = 0.5
_USED_AT = "atm_used_at"
#: MySQL's and MariaDB's, Aurora's, TiDB's.
_READ_ONLY_VARIABLES = (
    *("read_only", "super_read_only", "innodb_read_only"),
    *("tidb_restricted_read_only", "tidb_super_read_only"),
)
#: What a packet holds beside its statements.
_PACKET_HEAD = 16


def make_engine(url: URL, pool_size: int) -> Engine:
    """An engine with at most `pool_size` connections.

    READ_ONLY among its execution options: nothing will be written.
    """
    if url.get_backend_name() == "sqlite":
        _make_private(url)
        engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            connect_args={"check_same_thread": False, "timeout": _SQLITE_BUSY_MS / 1000},
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    defaults = {
        "connect_timeout": _CONNECT_SECONDS,
        "read_timeout": _ANSWER_SECONDS,
        "write_timeout": _ANSWER_SECONDS,
        "init_command": f"SET SESSION innodb_lock_wait_timeout={_LOCK_WAIT_SECONDS}",
    }
    connect_args = {name: value for name, value in defaults.items() if name not in url.query}
    hosts = str(url.query.get(HOSTS, ""))
    engine = create_engine(
        url.difference_update_query([HOSTS, MULTI_STATEMENTS]),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        # Every transaction here is ended by a commit or a rollback, or its
        # connection is thrown away: another rollback would be a round trip for nothing.
        pool_reset_on_return=None,
        pool_recycle=_RECYCLE_SECONDS,
        # Sweeps and compare-and-sets need no repeatable snapshot, and take fewer locks.
        isolation_level="READ COMMITTED",
        connect_args=connect_args,
    )
    more = [split_host_port(host, 3306, "the address") for host in hosts.split(",") if host]
    first = (url.host or "localhost", url.port or 3306)
    takes_several = str(url.query.get(MULTI_STATEMENTS)).lower() not in ("false", "f", "0")
    event.listen(engine, "do_connect", _Dialer([first, *more], takes_several))
    event.listen(engine, "connect", _ask_for_limit)
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "checkout", _ping_if_idle)
    return engine


class MySQLConnection(pymysql.connections.Connection):  # type: ignore[misc]
    """Takes several statements in one packet (`bulk.run`), if it may, and knows when one has committed.

    What is larger than `max_packet` (bytes) is refused here: the server would
    close the connection, as if it were gone. Raises PacketTooLargeError.
    """

    committed = False
    max_packet = 0

    @property
    def takes_several(self) -> bool:
        """Whether a packet may hold more than one statement."""
        return bool(self.client_flag & CLIENT.MULTI_STATEMENTS)

    def query(self, sql: Any, unbuffered: bool = False) -> int:
        self.committed = False
        if not self.fits(sql):
            size = _bytes_of(sql)
            raise PacketTooLargeError(
                f"{size} bytes as the database gets it, which takes {self.max_packet} (max_allowed_packet)"
            )
        return int(super().query(sql, unbuffered))

    def fits(self, sql: str | bytes) -> bool:
        """Whether the server takes it in one packet."""
        room = self.max_packet - _PACKET_HEAD
        return not self.max_packet or 4 * len(sql) <= room or _bytes_of(sql) <= room

    def commit(self) -> None:
        if not self.committed:
            super().commit()
        self.committed = False

    def _create_ssl_ctx(self, sslp: Any) -> Any:
        # Of each connection by PyMySQL: reading the system's certificates takes longer than anything else.
        if not isinstance(sslp, dict):
            return super()._create_ssl_ctx(sslp)
        files = tuple(_changed_at(sslp.get(name)) for name in ("ca", "cert", "key"))
        return _ssl_context(super()._create_ssl_ctx, tuple(sorted(sslp.items(), key=str)), files)


def _bytes_of(sql: str | bytes) -> int:
    # PyMySQL encodes like this.
    return len(sql) if isinstance(sql, bytes) or sql.isascii() else len(sql.encode(errors="surrogateescape"))


def _changed_at(path: Any) -> float:
    try:
        return Path(path).stat().st_mtime if path else 0.0
    except OSError:
        return 0.0


_contexts: dict[Any, ssl.SSLContext] = {}


def _ssl_context(make: Any, options: tuple[Any, ...], files: tuple[float, ...]) -> ssl.SSLContext:
    key = (options, files)
    if key not in _contexts:
        try:
            _contexts[key] = make(dict(options))
        except OSError as error:
            raise SettingsError(
                f"--mysql / MYSQL_DSN: a certificate or key cannot be read: {error}"
            ) from error
    return _contexts[key]


class _Dialer:
    """Makes connections to the first of several hosts that can be written to, or to one that can be read."""

    def __init__(self, hosts: Sequence[tuple[str, int]], takes_several: bool) -> None:
        self._hosts = list(hosts)
        self._takes_several = takes_several

    def __call__(
        self, _dialect: Any, _record: Any, arguments: Any, options: dict[str, Any]
    ) -> MySQLConnection:
        flags = options.pop("client_flag", 0) | CLIENT.FOUND_ROWS
        options |= {"client_flag": flags | (CLIENT.MULTI_STATEMENTS if self._takes_several else 0)}
        if len(self._hosts) == 1:
            return MySQLConnection(*arguments, **options)
        readable: MySQLConnection | None = None
        failed: pymysql.Error | None = None
        for place, (host, port) in enumerate(self._hosts):
            try:
                made = MySQLConnection(*arguments, **options | {"host": host, "port": port})
                if not _is_read_only(made):
                    # It is asked first from now on.
                    self._hosts.insert(0, self._hosts.pop(place))
                    if readable is not None:
                        readable.close()
                    return made
                made, readable = readable or made, readable or made
            except pymysql.Error as error:
                failed = error
        if readable is not None:
            return readable
        assert failed is not None, "there is at least one host"
        raise failed


def _is_read_only(connection: MySQLConnection) -> bool:
    """Whether it may only be read. Raises pymysql.Error where it is of no use at all."""
    with connection.cursor() as cursor:
        # Not each server has all of them, and none refuses the question.
        cursor.execute(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN {_READ_ONLY_VARIABLES}")
        is_read_only = any(str(value).upper() in ("1", "ON") for _, value in cursor.fetchall())
    # A Galera node without its primary component answers that, and refuses this (1047).
    connection.commit()
    return is_read_only


def _ask_for_limit(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@max_allowed_packet")
        connection.max_packet = int(cursor.fetchone()[0])


def _note_use(_connection: Any, record: Any) -> None:
    record.info[_USED_AT] = time.monotonic()


def _ping_if_idle(connection: Any, record: Any, _proxy: Any) -> None:
    # SQLAlchemy's own ping is a round trip each time; here a busy connection has none.
    if time.monotonic() - record.info.get(_USED_AT, 0.0) < _FRESH_SECONDS:
        return
    try:
        connection.ping(reconnect=False)
    except Exception as error:
        # The pool opens another one, and throws away all that are as old.
        raise exc.DisconnectionError from error


def _make_private(url: URL) -> None:
    """Makes a file that is not there yet, for this user alone. SQLite gives those beside it its rights."""
    if not url.database or "uri" in url.query:
        return
    with suppress(OSError):  # SQLite will say what is wrong
        os.close(os.open(url.database, os.O_RDWR | os.O_CREAT, 0o600))


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver must not begin transactions by itself: see _begin_sqlite.
    connection.isolation_level = None
    # Of several that open a new file at once, one makes it WAL; SQLite does not let the others wait for that.
    for attempt in stamina.retry_context(
        on=sqlite3.OperationalError,
        timeout=_SQLITE_BUSY_MS / 1000,
        attempts=None,
        wait_initial=0.01,
        wait_max=0.1,
    ):
        with attempt:
            connection.execute("PRAGMA journal_mode=WAL")
    for pragma in ("synchronous=FULL", f"busy_timeout={_SQLITE_BUSY_MS}"):
        connection.execute(f"PRAGMA {pragma}")


def show_any_text(engine: Engine) -> None:
    """From now on texts that are not UTF-8 are read, too: SQLite stores what other programs write."""
    event.listen(engine, "connect", _read_any_text)
    engine.dispose()


def _read_any_text(connection: Any, _record: Any) -> None:
    connection.text_factory = partial(str, encoding="utf-8", errors="replace")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that starts with a read cannot always become a writer;
    # one that will write takes the lock at once.
    read_only = connection.get_execution_options().get(READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
