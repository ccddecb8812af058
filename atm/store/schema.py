"""The schema's version: what it is, what it should be, and the way there."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from alembic.script import Script
from alembic.util import CommandError
from sqlalchemy import create_engine, exc, text
from sqlalchemy.engine import URL, Connection, Engine

from atm._version import __version__
from atm.errors import AtmError, SchemaBehindError, SchemaNewerError, SchemaRefusedError, UnavailableError
from atm.store.database import Database
from atm.store.failures import Failure, failure_of, words_of
from atm.store.migrations import revisions, schema_checks
from atm.store.migrations.revisions import State

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


class Standing(NamedTuple):
    """How a database's schema stands to this version of ATM."""

    #: The revision that the database is at; None before the first upgrade.
    current: str | None
    #: The one that this version needs.
    newest: str
    #: Why this version cannot work with it, and what to do; None when it can.
    problem: AtmError | None


def head() -> str:
    """The revision that this version of ATM needs."""
    return revisions.head()


def current(url: URL) -> str | None:
    """The revision that the database is at; None before the first upgrade.

    Raises UnavailableError and SchemaRefusedError.
    """
    return standing(url).current


def standing(url: URL) -> Standing:
    """How the database's schema stands to this version. Raises UnavailableError and SchemaRefusedError."""
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return _standing(State(None, "", "", is_told=False))
    with _connected(url, create_engine(url)) as connection:
        return _standing(revisions.state(connection))


def _standing(found: State) -> Standing:
    newest = head()
    known = [script.revision for script in revisions.scripts()]
    problem: AtmError | None = None
    if found.oldest_code > newest:
        problem = _newer(found, newest)
    elif found.revision is None or found.revision in known[:-1]:
        problem = SchemaBehindError(
            f"the database's schema is at {found.revision or 'no revision'}, this ATM needs {newest}: "
            "run `atm db upgrade` with the same --mysql / MYSQL_DSN, or start the server with --upgrade-db"
        )
    elif found.revision != newest and not found.is_told:
        # A newer ATM would have told.
        problem = schema_checks.stranger(
            f"alembic_version says {found.revision!r}, which is no revision of ATM"
        )
    return Standing(found.revision, newest, problem)


def _newer(found: State, newest: str) -> SchemaNewerError:
    return SchemaNewerError(
        f"the database's schema was made by ATM {found.made_by} and needs code of revision "
        f"{found.oldest_code} or later; this is ATM {__version__}, of revision {newest}. Install ATM "
        f"{found.made_by} here: no `atm db upgrade` of this one makes it fit"
    )


def require(database: Database) -> None:
    """Checks that this version can work with the database's schema: at its own revision, or expanded since.

    Raises SchemaBehindError and SchemaNewerError when it cannot, and
    UnavailableError, which says why, when the database cannot be used.
    """
    try:
        found = _standing(database.read(revisions.state))
    except UnavailableError as error:
        reason = words_of(error.__cause__ or error)
        shown = database.url.render_as_string(hide_password=True)
        raise UnavailableError(
            f"the database at {shown} cannot be used: {reason}", reason=error.reason
        ) from error
    except CommandError as error:
        raise SchemaRefusedError(f"alembic_version is not ATM's: {error}") from error
    if found.problem is not None:
        raise found.problem
    if found.current != found.newest:
        logger.info(
            "the schema is at %s, made by a newer ATM; this one, made for %s, goes on with it",
            found.current,
            found.newest,
        )


# -- upgrades --------------------------------------------------------------------


def upgrade(url: URL) -> tuple[str | None, str]:
    """Brings the schema to `head`, or leaves a newer one that this version can work with.

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
    with _connected(url, Database(url, pool_size=1).engine) as connection, _alone(connection):
        before = found = _insist(connection, partial(revisions.state, connection))
        problem = _standing(found).problem
        if problem is not None and not isinstance(problem, SchemaBehindError):
            raise problem
        coming = _pending(found)
        if coming:
            schema_checks.check(connection, found.revision, revisions.scripts())
        while coming:
            _insist(connection, partial(_apply, connection, coming[0]))
            # Another upgrade may have gone on, where no lock can be had.
            found = _insist(connection, partial(revisions.state, connection))
            coming = _pending(found)
        assert found.revision is not None, "there is at least one migration"
        return before.revision, found.revision


def _pending(found: State) -> list[Script]:
    known = revisions.scripts()
    names = [script.revision for script in known]
    if found.revision is None:
        return known
    return known[names.index(found.revision) + 1 :] if found.revision in names else []


def _apply(connection: Connection, script: Script) -> None:
    """One migration. Raises DBAPIError."""
    revisions.tell(connection, script)
    revisions.run(connection, script)
    revisions.tell(connection, script)
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


@contextmanager
def _connected(url: URL, engine: Engine) -> Iterator[Connection]:
    """A connection, whose errors say where the database is, and in its own words what was wrong."""
    try:
        with engine.connect() as connection:
            yield connection
    except exc.DBAPIError as error:
        said = f"the database at {url.render_as_string(hide_password=True)}: {error.orig}"
        if isinstance(error, exc.OperationalError) and failure_of(error) is not Failure.REFUSED:
            raise UnavailableError(said, reason="DATABASE_UNAVAILABLE") from error
        raise SchemaRefusedError(said) from error
    except CommandError as error:
        raise SchemaRefusedError(f"alembic_version is not ATM's: {error}") from error
    finally:
        engine.dispose()
