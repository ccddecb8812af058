"""The steps that migrations are made of. Each looks first what is there, and can be repeated.

MySQL and MariaDB commit each statement that changes a table, so an upgrade may
be killed between any two: the same steps, taken again, complete it. Two
upgrades at once may look at the same moment; whoever comes second takes the
refusal of the database for "it is there".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from atm.store.migrations import catalog

#: Codes of MySQL for "somebody else has just done that": a table, a column, an index, a row is there;
#: what should be dropped is not.
_DONE_BY_ANOTHER = {1050, 1060, 1061, 1062, 1091}


def do_without_ascii(connection: Connection) -> None:
    """From now on columns are made of utf8mb4 there where the engine has no ascii, as OceanBase has none."""
    has_ascii = connection.execute(sa.text("SHOW CHARACTER SET LIKE 'ascii'")).first()
    if not has_ascii:
        event.listen(connection, "before_cursor_execute", _in_utf8mb4, retval=True)


def _in_utf8mb4(_c: Any, _u: Any, statement: str, parameters: Any, _x: Any, _m: Any) -> tuple[str, Any]:
    wider = statement.replace(
        "CHARACTER SET ascii COLLATE ascii_bin", "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    )
    return wider, parameters


def create_table(table: sa.Table) -> None:
    """Creates a table, without indexes of its own, unless there is one of its name."""
    if not sa.inspect(op.get_bind()).has_table(table.name):
        _run(sa.schema.CreateTable(table))


def add_column(table: str, column: sa.Column[Any]) -> None:
    """Adds a column unless there is one of its name. Old code goes on adding rows without it:
    it is nullable, or has a `server_default`.
    """
    if column.name not in catalog.columns(op.get_bind(), table):
        _tolerate(lambda: op.add_column(table, column))


def drop_column(table: str, column: str) -> None:
    """Drops a column that is there. A contraction: the migration says `oldest_code`."""
    if column in catalog.columns(op.get_bind(), table):
        _tolerate(lambda: op.drop_column(table, column))


def create_index(name: str, table: str, columns: Sequence[str], *, unique: bool = False) -> None:
    """Creates an index unless there is one of its name."""
    if name not in catalog.indexes(op.get_bind(), table):
        _tolerate(lambda: op.create_index(name, table, list(columns), unique=unique))


def drop_index(name: str, table: str) -> None:
    """Drops an index that is there."""
    if name in catalog.indexes(op.get_bind(), table):
        _tolerate(lambda: op.drop_index(name, table))


def replace_index(name: str, table: str, columns: Sequence[str]) -> None:
    """Leaves an index of this name on these columns, whatever it was on before."""
    if catalog.indexes(op.get_bind(), table).get(name, list(columns)) != list(columns):
        drop_index(name, table)
    create_index(name, table, columns)


def insert_missing(table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Adds those of these rows whose keys are not there. What is there stays as it is."""
    (key,) = table.primary_key.columns
    known = set(op.get_bind().execute(sa.select(key)).scalars())
    for row in rows:
        if row[key.name] not in known:
            _run(table.insert().values(row))


def _run(statement: sa.Executable) -> None:
    _tolerate(lambda: op.get_bind().execute(statement))


def _tolerate(step: Any) -> None:
    """Takes a step that another upgrade may take at the same moment."""
    try:
        step()
    except DBAPIError as error:
        arguments = getattr(error.orig, "args", ())
        if not arguments or arguments[0] not in _DONE_BY_ANOTHER:
            raise
