"""The revisions of the schema: those that this code brings, and those that a database has had.

A revision is named by a number of four digits. `alembic_version` says at which
one a database is; `schema_revision` has a row for each since 0006, written
before its first change: which version of ATM made it, and the oldest code, by
the newest revision that it brings itself, that goes on with it. So code tells
a schema that has only grown since (an expansion) from one that it cannot use.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Column, MetaData, String, Table, func, insert, inspect, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from atm._version import __version__
from atm.models import SchemaRevision
from atm.store.migrations import steps

#: Where the migrations are.
FOLDER = Path(__file__).parent
#: The oldest code that can tell whether it goes on with a newer schema.
_FIRST = "0006"
_VERSION = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), primary_key=True),
    mysql_engine="InnoDB",
)
_REVISION = SchemaRevision.__table__  # type: ignore[attr-defined]


@cache
def _directory(folder: Path) -> ScriptDirectory:
    return ScriptDirectory(folder)


@cache
def _scripts(folder: Path) -> list[Script]:
    return list(_directory(folder).walk_revisions())[::-1]


def scripts() -> list[Script]:
    """The migrations of this code, oldest first."""
    return _scripts(FOLDER)


def head() -> str:
    """The revision that this code needs."""
    return scripts()[-1].revision


class State(NamedTuple):
    """Where a database is."""

    #: None before the first upgrade.
    revision: str | None
    #: The oldest code that goes on with it; "" before 0006.
    oldest_code: str
    #: The version of ATM that began with the newest revision; "" where nobody has said.
    made_by: str
    #: Whether `revision` is in `schema_revision`: a version of ATM has made it by the rule.
    is_told: bool


def state(connection: Connection) -> State:
    """Where this database is, as far as upgrades have got."""
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None or not inspect(connection).has_table(_REVISION.name):
        return State(revision, "", "", is_told=False)
    rows = connection.execute(select(_REVISION).order_by(_REVISION.c.revision)).mappings().all()
    is_told = any(row["revision"] == revision for row in rows)
    oldest_code = max((row["oldest_code"] for row in rows), default="")
    return State(revision, oldest_code, rows[-1]["version"] if is_told else "", is_told)


def tell(connection: Connection, script: Script) -> None:
    """Writes the row of a revision, before it begins: code that cannot go on with it starts no more."""
    if not inspect(connection).has_table(_REVISION.name):
        return
    mine = _REVISION.c.revision == script.revision
    if connection.execute(select(_REVISION.c.revision).where(mine)).first() is None:
        before = connection.execute(select(func.max(_REVISION.c.oldest_code))).scalar() or _FIRST
        row = {
            "revision": script.revision,
            "oldest_code": max(before, getattr(script.module, "oldest_code", "")),
            "version": __version__[:32],
            "begun_at": datetime.now(UTC),
        }
        # Another upgrade may be at the same place, where no lock can be had.
        with suppress(IntegrityError):
            connection.execute(insert(_REVISION), row)


def run(connection: Connection, script: Script) -> None:
    """Takes the steps of a migration, and says in `alembic_version` that they are done. Raises DBAPIError."""
    with Operations.context(MigrationContext.configure(connection)):
        steps.create_table(_VERSION)
        script.module.upgrade()
    number = _VERSION.c.version_num
    if script.down_revision is None:
        if connection.execute(select(number)).first() is None:
            connection.execute(insert(_VERSION).values(version_num=script.revision))
    else:
        # Nothing is changed where another upgrade was faster.
        mine = number == str(script.down_revision)
        connection.execute(update(_VERSION).where(mine).values(version_num=script.revision))
