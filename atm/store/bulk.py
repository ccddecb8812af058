"""Statements on many rows by their ids, for the paths where every task passes.

Written as SQL for the driver. SQLAlchemy would take longer to put such a
statement together, a hundred values at a time, than the database takes to run
it; its types still say how each column's values travel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Table
from sqlalchemy.engine import Connection, CursorResult, Dialect

from atm.models import UtcDateTime

Convert = Callable[[Any], Any]


@functools.cache
def _writers(table: Table, dialect: Dialect) -> dict[str, Convert | None]:
    """For each column what makes of a value what the driver takes; None: the value as it is."""
    return {
        # The driver takes five microseconds to write a moment, of which each row has several.
        column.name: _moment_as_text
        if isinstance(column.type, UtcDateTime) and dialect.name != "sqlite"
        else column.type.dialect_impl(dialect).bind_processor(dialect)
        for column in table.c
    }


def _moment_as_text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(" ", "microseconds")[:26]


@functools.cache
def _readers(table: Table, dialect: Dialect) -> dict[str, Convert | None]:
    """For each column what makes a value of what the driver gives."""
    return {
        column.name: column.type.dialect_impl(dialect).result_processor(dialect, None) for column in table.c
    }


@functools.cache
def _names(dialect: Dialect, columns: tuple[str, ...]) -> str:
    return ", ".join(map(dialect.identifier_preparer.quote, columns))


def _binds(connection: Connection) -> bool:
    """Whether the driver sends values apart from the statement; PyMySQL writes them into it."""
    return connection.dialect.name == "sqlite"


class _Statement:
    """A statement that grows: `put` says what stands in it for a value.

    PyMySQL would be given each value with a place of its own, and look each up,
    write it, and put it in: here it only writes it, and what is the same in
    all rows once.
    """

    def __init__(self, connection: Connection, table: Table) -> None:
        self._connection = connection
        self._writers = _writers(table, connection.dialect)
        self._bound: list[Any] = []
        # The driver knows how to quote for this connection.
        escape = None if _binds(connection) else connection.connection.dbapi_connection.escape  # type: ignore[union-attr]
        self._write: Callable[[Any], str] = escape or self._bind

    def _bind(self, value: Any) -> str:
        self._bound.append(value)
        return "?"

    def put(self, column: str, values: Iterable[Any]) -> list[str]:
        """What stands for these values of a column: to be used in this order, and once."""
        write = self._writers[column]
        return list(map(self._write, values if write is None else map(write, values)))

    def run(self, text: str) -> CursorResult[Any]:
        """Runs it."""
        bound = tuple(self._bound) or None
        return self._connection.exec_driver_sql(text, bound, {"no_parameters": bound is None})


def insert_all(connection: Connection, table: Table, columns: tuple[str, ...], rows: Sequence[Any]) -> None:
    """Adds rows, each a sequence of values in the order of the columns."""
    if not rows:
        return
    into = f"INSERT INTO {table.name} ({_names(connection.dialect, columns)}) VALUES "
    by_column = list(zip(columns, zip(*rows, strict=True), strict=True))
    if _binds(connection):
        writers = _writers(table, connection.dialect)
        written = (
            values if (write := writers[name]) is None else map(write, values) for name, values in by_column
        )
        marks = ", ".join("?" * len(columns))
        connection.exec_driver_sql(f"{into}({marks})", list(zip(*written, strict=True)))
        return
    statement = _Statement(connection, table)
    texts = []
    for name, values in by_column:
        # Most columns of new rows are the same in all: such a value is written once.
        if values.count(values[0]) == len(values):
            texts.append(statement.put(name, values[:1]) * len(values))
        else:
            texts.append(statement.put(name, values))
    statement.run(into + ", ".join([f"({', '.join(row)})" for row in zip(*texts, strict=True)]))


def select_all(
    connection: Connection,
    table: Table,
    columns: tuple[str, ...],
    key: str,
    ids: Sequence[str],
    lock: bool = False,
) -> list[dict[str, Any]]:
    """Those of the rows that there are. With `lock` nobody else changes them until the commit."""
    if not ids:
        return []
    statement = _Statement(connection, table)
    # SQLite locks the whole database when the transaction begins.
    locking = " FOR UPDATE" if lock and not _binds(connection) else ""
    wanted = ", ".join(statement.put(key, dict.fromkeys(ids)))
    found = statement.run(
        f"SELECT {_names(connection.dialect, columns)} FROM {table.name} WHERE {key} IN ({wanted}){locking}"
    ).all()
    readers = [(name, _readers(table, connection.dialect)[name]) for name in columns]
    return [
        {
            name: value if read is None else read(value)
            for (name, read), value in zip(readers, row, strict=True)
        }
        for row in found
    ]


def update_all(
    connection: Connection,
    table: Table,
    key: str,
    ids: Sequence[str],
    values: Mapping[str, Sequence[Any]],
    where: Mapping[str, Any],
) -> int:
    """Sets columns of the rows with these ids that also are as `where` says; how many there were.

    `values` has for each column a value for each id.
    """
    statement = _Statement(connection, table)

    def equal(name: str, value: Any) -> str:
        return f"{_names(connection.dialect, (name,))} = {statement.put(name, (value,))[0]}"

    parts = []
    for name, wanted in values.items():
        if wanted.count(wanted[0]) == len(wanted):
            parts.append(equal(name, wanted[0]))
        else:
            whens = [
                f"WHEN {statement.put(key, (id_,))[0]} THEN {statement.put(name, (value,))[0]}"
                for id_, value in zip(ids, wanted, strict=True)
            ]
            parts.append(f"{_names(connection.dialect, (name,))} = CASE {key} {' '.join(whens)} END")
    listed = ", ".join(statement.put(key, ids))
    held = "".join(f" AND {equal(name, value)}" for name, value in where.items())
    return statement.run(
        f"UPDATE {table.name} SET {', '.join(parts)} WHERE {key} IN ({listed}){held}"
    ).rowcount
