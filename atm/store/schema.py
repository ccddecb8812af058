"""The schema's version: what it is, what it should be, and what to do when these differ."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import exc
from sqlalchemy.engine import URL, Connection, Engine

from atm._version import __version__
from atm.errors import AtmError, SchemaBehindError, SchemaNewerError, SchemaRefusedError, UnavailableError
from atm.store.database import Database
from atm.store.failures import Failure, failure_of, words_of
from atm.store.migrations import revisions, schema_checks
from atm.store.migrations.revisions import State

logger = logging.getLogger(__name__)


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
        return standing_of(State(None, "", "", is_told=False))
    with connected(url, Database(url, pool_size=1).engine) as connection:
        return standing_of(revisions.state(connection))


def standing_of(found: State) -> Standing:
    """How a database that is there stands to this version."""
    newest = head()
    known = revisions.names()
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
        found = standing_of(database.read(revisions.state))
    except UnavailableError as error:
        reason = words_of(error.__cause__ or error)
        shown = database.url.render_as_string(hide_password=True)
        raise UnavailableError(
            f"the database at {shown} cannot be used: {reason}", reason=error.reason
        ) from error
    if found.problem is not None:
        raise found.problem
    if found.current != found.newest:
        logger.info(
            "the schema is at %s, made by a newer ATM; this one, made for %s, goes on with it",
            found.current,
            found.newest,
        )


@contextmanager
def connected(url: URL, engine: Engine) -> Iterator[Connection]:
    """A connection, whose errors say where the database is, and in its own words what was wrong."""
    try:
        with engine.connect() as connection:
            yield connection
    except exc.DBAPIError as error:
        said = f"the database at {url.render_as_string(hide_password=True)}: {error.orig}"
        if isinstance(error, exc.OperationalError) and failure_of(error) is not Failure.REFUSED:
            raise UnavailableError(said, reason="DATABASE_UNAVAILABLE") from error
        raise SchemaRefusedError(said) from error
    finally:
        engine.dispose()
