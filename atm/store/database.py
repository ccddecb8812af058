"""Connections and transactions, on MySQL, MariaDB and SQLite alike."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pymysql
import stamina
from pymysql.constants import CLIENT
from sqlalchemy import create_engine, event, exc, text
from sqlalchemy.engine import URL, Engine
from sqlalchemy.engine import Connection as Connection

from atm.errors import UnavailableError
from atm.store.clock import FILE_TIME_RESOLUTION, DatabaseClock, file_time

R = TypeVar("R")

#: Deadlock found; lock wait timeout. The transaction is rolled back and may be tried again.
_MYSQL_CONFLICTS = {1213, 1205}
#: More than the server takes: no other try will help, smaller ones may.
_MYSQL_TOO_LARGE = 1153
#: How many times a transaction that lost such a conflict is tried, and for how long at most.
_CONFLICT_ATTEMPTS = 8
_CONFLICT_SECONDS = 10.0
#: How long a statement of SQLite waits for the lock.
_SQLITE_BUSY_MS = 10_000
#: MySQL closes idle connections after 8 hours; many a proxy after less.
_RECYCLE_SECONDS = 280
_CONNECT_SECONDS = 5
#: A server that is frozen, or a network that swallows packets, must not hold a thread for ever.
_ANSWER_SECONDS = 30
#: Shorter, so that the server gives up first, and says why.
_LOCK_WAIT_SECONDS = 10
_READ_ONLY = "atm_read_only"
#: A connection that was used within this time is taken to be there still.
_FRESH_SECONDS = 0.5
_USED_AT = "atm_used_at"


class DuplicateError(Exception):
    """A row with the same key is there already; the transaction was undone."""


class Database:
    """An engine, and the two ways to use it: `read` and `write`.

    Open it after a fork, never before. `pool_size` is the number of
    connections it keeps and the most it opens. `clock` is compared with the
    database's whenever a connection is made.
    """

    def __init__(self, url: URL, *, pool_size: int = 8) -> None:
        self.url = url
        self.clock = DatabaseClock()
        self._answered_at = time.monotonic()
        self.engine = _engine(url, pool_size)
        event.listen(self.engine, "connect", lambda connection, _record: self._compare_clocks(connection))
        self._reader = self.engine.execution_options(**{_READ_ONLY: True})

    def read(self, work: Callable[[Connection], R]) -> R:
        """What `work` returns, run on a connection that only reads. Raises UnavailableError."""
        return self._run(self._reader, work)

    def write(self, work: Callable[[Connection], R]) -> R:
        """What `work` returns, committed: all of it or nothing.

        `work` runs again when the database undid the transaction for a
        conflict, so it must do nothing but SQL. Raises UnavailableError and
        DuplicateError.
        """
        return self._run(self.engine, work)

    def _run(self, engine: Engine, work: Callable[[Connection], R]) -> R:
        result = self._try(engine, work)
        self._answered_at = time.monotonic()
        return result

    def _try(self, engine: Engine, work: Callable[[Connection], R]) -> R:
        try:
            try:
                with engine.begin() as connection:
                    return work(connection)
            except exc.OperationalError as error:
                if not _is_conflict(error):
                    raise
            # Apart from the first try, which is nearly always the last one: a
            # tenth of a millisecond less.
            for attempt in stamina.retry_context(
                on=_is_conflict,
                attempts=_CONFLICT_ATTEMPTS,
                timeout=_CONFLICT_SECONDS,
                wait_initial=0.01,
                wait_max=0.5,
            ):
                with attempt, engine.begin() as connection:
                    return work(connection)
        except exc.IntegrityError as error:
            raise DuplicateError from error
        except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
            if isinstance(error, exc.DBAPIError) and _code(error) == _MYSQL_TOO_LARGE:
                raise
            raise UnavailableError(
                "the database cannot be reached or does not answer",
                reason="DATABASE_UNAVAILABLE",
                retry_after=1.0,
            ) from error
        raise AssertionError("a retried block either returns or raises")

    def silent_for(self) -> float:
        """How many seconds ago it last answered a question, or was opened."""
        return time.monotonic() - self._answered_at

    def ping(self) -> None:
        """Returns if the database answers. Raises UnavailableError."""
        self.read(lambda connection: connection.execute(text("SELECT 1")))

    def compare_clocks(self) -> None:
        """Asks the database for its time: `clock` is right again. Raises UnavailableError."""
        self.read(lambda connection: self._compare_clocks(connection.connection.dbapi_connection))

    def _compare_clocks(self, connection: Any) -> None:
        asked_at = time.monotonic()
        try:
            told, resolution = _time_of(self.url, connection)
        except OSError:
            return  # no file can be made: SQLite will say so itself
        self.clock.observe(told, asked_at, time.monotonic(), datetime.now(UTC), resolution)

    def close(self) -> None:
        """Closes the pooled connections."""
        self.engine.dispose()


def _time_of(url: URL, connection: Any) -> tuple[datetime, timedelta]:
    """What the database says the time is, and by how much that may be behind."""
    if url.get_backend_name() == "sqlite":
        assert url.database, "SQLite needs a file"
        return file_time(Path(url.database).absolute().parent), FILE_TIME_RESOLUTION
    with connection.cursor() as cursor:
        cursor.execute("SELECT UTC_TIMESTAMP(6)")
        return cursor.fetchone()[0].replace(tzinfo=UTC), timedelta(0)


def _is_conflict(error: Exception) -> bool:
    if not isinstance(error, exc.OperationalError):
        return False
    cause: Any = error.orig
    if isinstance(cause, sqlite3.OperationalError):
        return "locked" in str(cause)
    return _code(error) in _MYSQL_CONFLICTS


def _code(error: exc.DBAPIError) -> Any:
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments else None


def _engine(url: URL, pool_size: int) -> Engine:
    if url.get_backend_name() == "sqlite":
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
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        # Every transaction here is ended by a commit or a rollback: another
        # rollback after it would be a round trip for nothing.
        pool_reset_on_return=None,
        pool_recycle=_RECYCLE_SECONDS,
        # Sweeps and compare-and-sets need no repeatable snapshot, and take fewer locks.
        isolation_level="READ COMMITTED",
        connect_args=connect_args,
    )
    event.listen(engine, "do_connect", _connect_mysql)
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "checkout", _ping_if_idle)
    return engine


class _Connection(pymysql.connections.Connection):  # type: ignore[misc]
    """Takes several statements in one packet (`bulk.run`), and knows when such a packet has committed."""

    committed = False

    def query(self, sql: Any, unbuffered: bool = False) -> int:
        self.committed = False
        return int(super().query(sql, unbuffered))

    def commit(self) -> None:
        if not self.committed:
            super().commit()
        self.committed = False


def _connect_mysql(_dialect: Any, _record: Any, arguments: Any, options: dict[str, Any]) -> _Connection:
    flags = options.pop("client_flag", 0) | CLIENT.FOUND_ROWS | CLIENT.MULTI_STATEMENTS
    return _Connection(*arguments, client_flag=flags, **options)


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


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that starts with a read cannot always become a writer;
    # one that will write takes the lock at once.
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
