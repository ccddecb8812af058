"""Statements on many rows by their ids, for the paths where every task passes.

Written as SQL for the driver. SQLAlchemy would take longer to put such a
statement together, a hundred values at a time, than the database takes to run
it; its types still say how each column's values travel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Table
from sqlalchemy.engine import Connection, Dialect

Convert = Callable[[Any], Any]


@functools.cache
def _writers(table: Table, dialect: Dialect) -> dict[str, Convert | None]:
    """For each column what makes of a value what the driver takes; None: the value as it is."""
    return {column.name: column.type.dialect_impl(dialect).bind_processor(dialect) for column in table.c}


@functools.cache
def _readers(table: Table, dialect: Dialect) -> dict[str, Convert | None]:
    """For each column what makes a value of what the driver gives."""
    return {
        column.name: column.type.dialect_impl(dialect).result_processor(dialect, None) for column in table.c
    }


def _mark(dialect: Dialect) -> str:
    return "?" if dialect.paramstyle == "qmark" else "%s"


def _name(dialect: Dialect, name: str) -> str:
    return dialect.identifier_preparer.quote(name)


def insert_all(connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Any]) -> None:
    """Adds rows, each a sequence of values in the order of the columns."""
    if not rows:
        return
    dialect = connection.dialect
    writers = [_writers(table, dialect)[name] for name in columns]
    named = ":{}" if dialect.paramstyle == "qmark" else "%({})s"
    bound: dict[str, Any] = {}
    marks: list[list[str]] = []
    for number, (write, column) in enumerate(zip(writers, zip(*rows, strict=True), strict=True)):
        # Most columns of new rows are the same in all: the driver writes such a value out once.
        values = column[:1] if column.count(column[0]) == len(column) else column
        names = [f"c{number}_{place}" for place in range(len(values))]
        bound.update(zip(names, values if write is None else map(write, values), strict=True))
        own = [named.format(name) for name in names]
        marks.append(own if len(own) == len(rows) else own * len(rows))
    tuples = ", ".join(f"({', '.join(row)})" for row in zip(*marks, strict=True))
    names = [_name(dialect, name) for name in columns]
    # Names come from the models, values are bound.
    connection.exec_driver_sql(f"INSERT INTO {table.name} ({', '.join(names)}) VALUES {tuples}", bound)


def select_all(
    connection: Connection,
    table: Table,
    columns: Sequence[str],
    key: str,
    ids: Sequence[str],
    lock: bool = False,
) -> list[dict[str, Any]]:
    """Those of the rows that there are. With `lock` nobody else changes them until the commit."""
    if not ids:
        return []
    dialect = connection.dialect
    names = ", ".join(_name(dialect, name) for name in columns)
    marks = ", ".join([_mark(dialect)] * len(ids))
    # SQLite locks the whole database when the transaction begins.
    locking = " FOR UPDATE" if lock and dialect.name != "sqlite" else ""
    statement = f"SELECT {names} FROM {table.name} WHERE {key} IN ({marks}){locking}"
    found = connection.exec_driver_sql(statement, tuple(ids)).all()
    readers = [(name, _readers(table, dialect)[name]) for name in columns]
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
    dialect, mark = connection.dialect, _mark(connection.dialect)
    writers = _writers(table, dialect)
    parts, bound = [], []
    for name, wanted in values.items():
        write = writers[name]
        own = list(wanted) if write is None else [write(value) for value in wanted]
        if own.count(own[0]) == len(own):
            parts.append(f"{_name(dialect, name)} = {mark}")
            bound.append(own[0])
        else:
            whens = f" WHEN {mark} THEN {mark}" * len(ids)
            parts.append(f"{_name(dialect, name)} = CASE {key}{whens} END")
            bound += [item for pair in zip(ids, own, strict=True) for item in pair]
    marks = ", ".join([mark] * len(ids))
    held = "".join(f" AND {_name(dialect, name)} = {mark}" for name in where)
    bound += [*ids, *(value if (w := writers[n]) is None else w(value) for n, value in where.items())]
    statement = f"UPDATE {table.name} SET {', '.join(parts)} WHERE {key} IN ({marks}){held}"
    return connection.exec_driver_sql(statement, tuple(bound)).rowcount
