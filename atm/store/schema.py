"""The schema's version: what it is, what it should be, and the way there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, exc, text
from sqlalchemy.engine import URL, Connection, Engine

from atm.errors import SchemaBehindError, SchemaRefusedError, UnavailableError
from atm.store.database import Database
from atm.store.failures import words_of

_FOLDER = Path(__file__).parent / "migrations"
#: Servers that start together upgrade one after the other; each waits this long for its turn.
_LOCK_SECONDS = 25


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config


def head() -> str:
    """The revision that this version of ATM needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None, "there is at least one migration"
    return revision


def current(url: URL) -> str | None:
    """The revision that the database is at; None before the first upgrade.

    Raises UnavailableError and SchemaRefusedError.
    """
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return None
    with _connected(url, create_engine(url)) as connection:
        return _revision(connection)


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


@contextmanager
def _connected(url: URL, engine: Engine) -> Iterator[Connection]:
    """A connection, whose errors say where the database is, and in its own words what was wrong."""
    try:
        with engine.connect() as connection:
            yield connection
    except exc.DBAPIError as error:
        said = f"the database at {url.render_as_string(hide_password=True)}: {error.orig}"
        if isinstance(error, exc.OperationalError):
            raise UnavailableError(said, reason="DATABASE_UNAVAILABLE") from error
        raise SchemaRefusedError(said) from error
    finally:
        engine.dispose()


def upgrade(url: URL) -> tuple[str | None, str]:
    """Brings the schema to `head`. Returns the revision before and after.

    Safe to run from several places at once, and again. Raises UnavailableError
    when the database cannot be reached, SchemaRefusedError when it refuses.
    """
    if url.get_backend_name() == "sqlite":
        Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
    # The engine of Database: on SQLite its transaction keeps others out.
    with _connected(url, Database(url, pool_size=1).engine) as connection:
        is_mysql = connection.dialect.name != "sqlite"
        if is_mysql:
            connection.execute(text("SELECT GET_LOCK('atm_schema', :wait)"), {"wait": _LOCK_SECONDS})
        try:
            before = _revision(connection)
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
        finally:
            if is_mysql:
                connection.execute(text("SELECT RELEASE_LOCK('atm_schema')"))
    return before, head()


def require(database: Database) -> None:
    """Checks that the database is at the revision that this version needs.

    Raises SchemaBehindError when it is not, and UnavailableError, which says
    why, when it cannot be used.
    """
    try:
        found = database.read(_revision)
    except UnavailableError as error:
        reason = words_of(error.__cause__ or error)
        shown = database.url.render_as_string(hide_password=True)
        raise UnavailableError(
            f"the database at {shown} cannot be used: {reason}", reason=error.reason
        ) from error
    if found != head():
        raise SchemaBehindError(
            f"the database's schema is at {found or 'no revision'}, this ATM needs {head()}: "
            "run `atm db upgrade` with the same --mysql / MYSQL_DSN, or start the server with --upgrade-db"
        )
