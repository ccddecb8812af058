"""The migrations of this code, each of which brings the schema to a revision, and how one is run."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import func, insert, inspect, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from atm._version import __version__
from atm.store.migrations import revisions, steps
from atm.store.migrations.revisions import REVISION, VERSION

#: The oldest code that can tell whether it goes on with a newer schema.
_FIRST = "0006"


@cache
def _scripts(folder: Path) -> list[Script]:
    return list(ScriptDirectory(folder).walk_revisions())[::-1]


def scripts() -> list[Script]:
    """The migrations of this code, oldest first."""
    return _scripts(revisions.FOLDER)


def tell(connection: Connection, script: Script) -> None:
    """Writes the row of a revision, before it begins: code that cannot go on with it starts no more."""
    if not inspect(connection).has_table(REVISION.name):
        return
    mine = REVISION.c.revision == script.revision
    if connection.execute(select(REVISION.c.revision).where(mine)).first() is None:
        before = connection.execute(select(func.max(REVISION.c.oldest_code))).scalar() or _FIRST
        row = {
            "revision": script.revision,
            "oldest_code": max(before, getattr(script.module, "oldest_code", "")),
            "version": __version__[:32],
            "begun_at": datetime.now(UTC),
        }
        # Another upgrade may be at the same place, where no lock can be had.
        with suppress(IntegrityError):
            connection.execute(insert(REVISION), row)


def run(connection: Connection, script: Script) -> None:
    """Takes the steps of a migration, and says in `alembic_version` that they are done. Raises DBAPIError."""
    with Operations.context(MigrationContext.configure(connection)):
        steps.create_table(VERSION)
        script.module.upgrade()
    number = VERSION.c.version_num
    if script.down_revision is None:
        if connection.execute(select(number)).first() is None:
            connection.execute(insert(VERSION).values(version_num=script.revision))
    else:
        # Nothing is changed where another upgrade was faster.
        mine = number == str(script.down_revision)
        connection.execute(update(VERSION).where(mine).values(version_num=script.revision))
