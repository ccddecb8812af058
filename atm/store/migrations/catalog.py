"""The columns and indexes of a table, as the database lists them.

SQLAlchemy reads MySQL's from SHOW CREATE TABLE, where OceanBase says more than
it understands. Only there the information schema is asked: MariaDB leaves out
of it a table that another connection is just changing.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection

_COLUMNS = text(
    "SELECT column_name FROM information_schema.columns "
    "WHERE table_schema = DATABASE() AND table_name = :name ORDER BY ordinal_position"
)
_INDEXES = text(
    "SELECT index_name, column_name FROM information_schema.statistics "
    "WHERE table_schema = DATABASE() AND table_name = :name AND index_name <> 'PRIMARY' "
    "ORDER BY index_name, seq_in_index"
)


def columns(connection: Connection, table: str) -> list[str]:
    """The names of a table's columns, in their order; none where there is no such table."""
    if _is_understood(connection):
        return [column["name"] for column in inspect(connection).get_columns(table)]
    return list(connection.execute(_COLUMNS, {"name": table}).scalars())


def indexes(connection: Connection, table: str) -> dict[str, Sequence[str | None]]:
    """A table's indexes but the primary key: by name the columns; None stands for an expression."""
    if _is_understood(connection):
        found = inspect(connection).get_indexes(table)
        return {index["name"]: list(index["column_names"]) for index in found if index["name"]}
    named: dict[str, list[str | None]] = {}
    for name, column in connection.execute(_INDEXES, {"name": table}):
        named.setdefault(name, []).append(column)
    return dict(named)


def _is_understood(connection: Connection) -> bool:
    """Whether SQLAlchemy understands what the database says of a table."""
    if connection.dialect.name == "sqlite":
        return True
    return "oceanbase" not in str(connection.execute(text("SELECT VERSION()")).scalar()).lower()
