"""The revisions of the schema: those that this code brings, and those that a database has had.

A revision is named by a number of four digits. `alembic_version` says at which
one a database is; `schema_revision` has a row for each since 0006, written
before its first change: which version of ATM made it, and the oldest code, by
the newest revision that it brings itself, that goes on with it. So code tells
a schema that has only grown since (an expansion) from one that it cannot use.
Servers and workers look at no more than that when they start, so Alembic,
which takes a third of a second to import, is left to upgrades (`scripts`).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Column, MetaData, String, Table, inspect, select
from sqlalchemy.engine import Connection

from atm.errors import SchemaRefusedError
from atm.models import SchemaRevision

#: Where the migrations are.
FOLDER = Path(__file__).parent
VERSION = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), primary_key=True),
    mysql_engine="InnoDB",
)
REVISION = SchemaRevision.__table__  # type: ignore[attr-defined]


@cache
def _names(folder: Path) -> list[str]:
    return sorted(path.name[:4] for path in (folder / "versions").glob("[0-9]*.py"))


def names() -> list[str]:
    """The revisions of this code, oldest first: its migrations are in files that are named by them."""
    return _names(FOLDER)


def head() -> str:
    """The revision that this code needs."""
    return names()[-1]


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
    """Where this database is, as far as upgrades have got. Raises SchemaRefusedError, and DBAPIError."""
    tables = set(inspect(connection).get_table_names())
    revision = _version(connection) if VERSION.name in tables else None
    if revision is None or REVISION.name not in tables:
        return State(revision, "", "", is_told=False)
    rows = connection.execute(select(REVISION).order_by(REVISION.c.revision)).mappings().all()
    is_told = any(row["revision"] == revision for row in rows)
    oldest_code = max((row["oldest_code"] for row in rows), default="")
    return State(revision, oldest_code, rows[-1]["version"] if is_told else "", is_told)


def _version(connection: Connection) -> str | None:
    found = connection.execute(select(VERSION.c.version_num)).scalars().all()
    if len(found) > 1:
        raise SchemaRefusedError(f"alembic_version is not ATM's: it has {len(found)} rows, for one version")
    return found[0] if found else None
