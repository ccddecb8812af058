"""Transactions, on MySQL, MariaDB and SQLite alike: all or nothing, and again after a conflict."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import stamina
from sqlalchemy import event, exc, text
from sqlalchemy.engine import URL, Engine
from sqlalchemy.engine import Connection as Connection

from atm.errors import AtmError
from atm.store.clock import FILE_TIME_RESOLUTION, DatabaseClock, file_time
from atm.store.engine import READ_ONLY, make_engine, show_any_text
from atm.store.failures import Failure, NoConnectionError, OutageLog, answer_to, failure_of, is_undecodable

logger = logging.getLogger(__name__)

R = TypeVar("R")

#: How many times a transaction that lost a conflict is tried, and for how long at most.
_CONFLICT_ATTEMPTS = 8
_CONFLICT_SECONDS = 10.0


#: ... and is refused where nothing may be changed.
_CHANGES_NOTHING = text("UPDATE leader SET name = name WHERE 1 = 0")


class DuplicateError(Exception):
    """A row with the same key is there already; the transaction was undone."""


class UndoneError(Exception):
    """What a transaction found forbids it: it is undone, and its connection is as good as before."""


class Database:
    """An engine, and the two ways to use it: `read` and `write`.

    Open it after a fork, never before. `pool_size` is the number of
    connections it keeps and the most it opens. `clock` is compared with the
    database's whenever a connection is made.
    """

    def __init__(self, url: URL, *, pool_size: int = 8) -> None:
        self.url = url
        self.clock = DatabaseClock()
        self.engine = make_engine(url, pool_size)
        self._reader = self.engine.execution_options(**{READ_ONLY: True})
        self._outages = OutageLog()
        self._answered_at = time.monotonic()
        self._takes_no_writes = False
        # After those of the engine itself, which make a connection fit for use.
        event.listen(self.engine, "connect", lambda connection, _record: self._compare_clocks(connection))

    def read(self, work: Callable[[Connection], R]) -> R:
        """What `work` returns, run on a connection that only reads.

        Raises UnavailableError, of which DatabaseRefusedError is one.
        """
        return self._run(self._reader, work)

    def write(self, work: Callable[[Connection], R]) -> R:
        """What `work` returns, committed: all of it or nothing.

        `work` runs again when the database undid the transaction for a
        conflict, so it must do nothing but SQL. Raises UnavailableError (of
        which DatabaseRefusedError is one), DuplicateError, and
        PacketTooLargeError.
        """
        if not self._takes_no_writes:
            return self._run(self.engine, work)

        def proving(connection: Connection) -> R:
            # `work` may only read, and a commit of that shows nothing.
            connection.execute(_CHANGES_NOTHING)
            return work(connection)

        result = self._run(self.engine, proving)
        self._takes_no_writes = False
        self._outages.over()
        return result

    def _run(self, engine: Engine, work: Callable[[Connection], R]) -> R:
        try:
            result = self._insist(engine, work)
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                if isinstance(error, exc.IntegrityError):
                    raise DuplicateError from error
                raise
            if failure not in (Failure.CONFLICT, Failure.TOO_LARGE):
                self._outages.note(failure, error)
            if failure is Failure.NOT_PRIMARY:
                # The other connections are to the same server.
                self._takes_no_writes = True
                self.engine.dispose()
            raise answer_to(failure, error) from error
        self._answered_at = time.monotonic()
        if not self._takes_no_writes:
            self._outages.over()
        return result

    def _insist(self, engine: Engine, work: Callable[[Connection], R]) -> R:
        """Tries again what lost a conflict."""
        try:
            return _transact(engine, work)
        except exc.DBAPIError as error:
            if is_undecodable(error):
                # Not from the start: it makes each value of SQLite slower.
                show_any_text(self.engine)
                return _transact(engine, work)
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
            with attempt:
                return _transact(engine, work)
        raise AssertionError("a retried block either returns or raises")

    def silent_for(self) -> float:
        """How many seconds ago it last answered a question, or was opened."""
        return time.monotonic() - self._answered_at

    def ping(self) -> None:
        """Returns if the database answers, and takes writes. Raises UnavailableError."""
        if self.url.get_backend_name() == "sqlite" and not self._takes_no_writes:
            # A file does not become a replica; writing would make others wait.
            self.read(lambda connection: connection.execute(text("SELECT 1")))
            return
        self.write(lambda connection: connection.execute(_CHANGES_NOTHING))

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


def _transact(engine: Engine, work: Callable[[Connection], R]) -> R:
    """One try. A connection goes back to the pool only when its transaction has ended for certain."""
    pool = engine.pool
    try:
        connection = engine.connect()
    except Exception as error:
        raise NoConnectionError from error
    is_good = False
    try:
        transaction = connection.begin()
        try:
            result = work(connection)
        except BaseException as error:
            # Otherwise it may be in the middle of an answer, or on a server that is of no more use.
            if _leaves_good(error) and not connection.invalidated:
                transaction.rollback()
                is_good = True
            raise
        transaction.commit()
        is_good = True
        return result
    finally:
        # Who disposes of a pool closes those of its connections that nobody uses just then.
        if not is_good or engine.pool is not pool:
            _throw_away(connection)
        connection.close()


def _throw_away(connection: Connection) -> None:
    try:
        connection.invalidate()
    except Exception:
        logger.debug("a connection could not be closed", exc_info=True)


def _leaves_good(error: BaseException) -> bool:
    return isinstance(error, AtmError | UndoneError | exc.IntegrityError) or _is_conflict(error)


def _is_conflict(error: BaseException) -> bool:
    return failure_of(error) is Failure.CONFLICT


def _time_of(url: URL, connection: Any) -> tuple[datetime, timedelta]:
    """What the database says the time is, and by how much that may be behind."""
    if url.get_backend_name() == "sqlite":
        assert url.database, "SQLite needs a file"
        return file_time(Path(url.database).absolute().parent), FILE_TIME_RESOLUTION
    with connection.cursor() as cursor:
        cursor.execute("SELECT UTC_TIMESTAMP(6)")
        return cursor.fetchone()[0].replace(tzinfo=UTC), timedelta(0)
