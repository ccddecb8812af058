"""The way from a schema's revision to the newest one, alone, again after it was killed, under load."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from alembic.script import Script
from sqlalchemy import exc, text
from sqlalchemy.engine import URL, Connection

from atm.errors import SchemaBehindError, UnavailableError
from atm.store.database import Database
from atm.store.failures import Failure, failure_of
from atm.store.migrations import revisions, schema_checks, scripts, steps
from atm.store.migrations.revisions import State
from atm.store.schema import connected, standing_of

R = TypeVar("R")

logger = logging.getLogger(__name__)

#: Upgrades that begin together are done one after the other; each waits this long for its turn. One that
#: was killed holds the lock until its last statement, an index on millions of tasks, say, is done.
LOCK_SECONDS = 600.0
_LOCK_POLL_SECONDS = 5
#: How long a statement that changes a table waits for the transactions that use it: those that come after
#: it wait, too. Then it is tried again, after as long a pause.
_TABLE_WAIT_SECONDS = 5
_TABLE_PAUSE_SECONDS = 5.0
_TABLE_TRIES = 12
#: An index on a large table takes its time; no other statement is waited for as long.
_ANSWER_SECONDS = 24 * 3600
#: The lock that upgrades of earlier versions take, and the one of this database.
_LOCKS = ("'atm_schema'", "CONCAT('atm_schema:', LEFT(SHA1(DATABASE()), 40))")


def upgrade(url: URL) -> tuple[str | None, str]:
    """Brings the schema to the newest revision, or leaves a newer one that this version can work with.

    Returns the revision before and after. Safe to run from several places at
    once, and again after it was killed. Raises UnavailableError when the
    database cannot be reached, SchemaNewerError, and SchemaRefusedError when
    the database refuses or is not ATM's: then nothing was changed.
    """
    if url.get_backend_name() == "sqlite":
        Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
    else:
        url = url.update_query_dict({"read_timeout": str(_ANSWER_SECONDS)})
    # The engine of Database: on SQLite its transaction keeps others out.
    with connected(url, Database(url, pool_size=1).engine) as connection, _alone(connection):
        before = found = _insist(connection, partial(revisions.state, connection))
        problem = standing_of(found).problem
        if problem is not None and not isinstance(problem, SchemaBehindError):
            raise problem
        coming = _pending(found)
        if coming:
            schema_checks.check(connection, found.revision, scripts.scripts())
            if connection.dialect.name != "sqlite":
                steps.do_without_ascii(connection)
        while coming:
            _insist(connection, partial(_apply, connection, coming[0]))
            # Another upgrade may have gone on, where no lock can be had.
            found = _insist(connection, partial(revisions.state, connection))
            coming = _pending(found)
        assert found.revision is not None, "there is at least one migration"
        return before.revision, found.revision


def _pending(found: State) -> list[Script]:
    names = revisions.names()
    if found.revision is None:
        return scripts.scripts()
    return scripts.scripts()[names.index(found.revision) + 1 :] if found.revision in names else []


def _apply(connection: Connection, script: Script) -> None:
    """One migration. Raises DBAPIError."""
    scripts.tell(connection, script)
    scripts.run(connection, script)
    scripts.tell(connection, script)
    connection.commit()


def _insist(connection: Connection, work: Callable[[], R]) -> R:
    """What `work` returns. Tries again what met other transactions, or another upgrade. Raises DBAPIError."""
    for tries_left in reversed(range(_TABLE_TRIES)):
        try:
            return work()
        except exc.OperationalError as error:
            if not tries_left or failure_of(error) is not Failure.CONFLICT:
                raise
            connection.rollback()
            logger.warning("the upgrade waits for transactions that use its tables: %s", error.orig)
            time.sleep(_TABLE_PAUSE_SECONDS)
    raise AssertionError("the last try either returns or raises")


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """While no other upgrade of this database runs. Raises UnavailableError when one does not end."""
    if connection.dialect.name == "sqlite":
        yield  # its transactions are one after the other
        return
    connection.execute(text(f"SET SESSION lock_wait_timeout = {_TABLE_WAIT_SECONDS}"))
    held = [lock for lock in _LOCKS if _take(connection, lock)]
    try:
        yield
    finally:
        # A connection that is lost has none any more.
        if not connection.invalidated:
            for lock in held:
                connection.execute(text(f"SELECT RELEASE_LOCK({lock})"))


def _take(connection: Connection, lock: str) -> bool:
    """Whether it is taken; False where the database knows no locks: each step can be taken twice anyway."""
    end = time.monotonic() + LOCK_SECONDS
    is_told = False
    try:
        while not connection.execute(text(f"SELECT GET_LOCK({lock}, {_LOCK_POLL_SECONDS})")).scalar():
            holder = connection.execute(text(f"SELECT IS_USED_LOCK({lock})")).scalar()
            said = f"another upgrade of the schema runs, in the database's connection {holder}"
            if time.monotonic() > end:
                raise UnavailableError(f"{said}; it has not ended in {LOCK_SECONDS:.0f} s")
            if not is_told:
                logger.warning("%s; this one waits for it", said)
            is_told = True
    except exc.DBAPIError as error:
        if connection.invalidated:
            raise
        logger.info("the database gives no lock: %s", error.orig)
        return False
    return True
