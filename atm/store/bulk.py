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
from sqlalchemy.exc import DBAPIError

from atm.columns import JsonMap, UtcDateTime
from atm.store.failures import COMMIT

Convert = Callable[[Any], Any]

#: How much of a statement an error shows: values are in it.
_SHOWN = 200


@functools.cache
def _writers(table: Table, dialect: Dialect) -> dict[str, Convert | None]:
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


class Statement:
    """A statement that grows: `put` says what stands in it for a value.

    PyMySQL would be given each value with a place of its own, and look each up,
    write it, and put it in: here it only writes it, and what is the same in
    all rows once.
    """

    def __init__(self, connection: Connection, table: Table) -> None:
        #: For each column what makes of a value what the driver takes; None: the value as it is.
        self.writers = _writers(table, connection.dialect)
        self.text = ""
        self.bound: list[Any] = []
        # The driver knows how to quote for this connection.
        escape = None if _binds(connection) else connection.connection.dbapi_connection.escape  # type: ignore[union-attr]
        self._write: Callable[[Any], str] = escape or self._bind

    def _bind(self, value: Any) -> str:
        self.bound.append(value)
        return "?"

    def put(self, column: str, values: Iterable[Any]) -> list[str]:
        """What stands for these values of a column: to be used in this order, and once."""
        write = self.writers[column]
        return list(map(self._write, values if write is None else map(write, values)))


def _execute(connection: Connection, statement: Statement) -> CursorResult[Any]:
    bound: Any = statement.bound or None
    if bound and not isinstance(bound[0], tuple):
        bound = tuple(bound)
    return connection.exec_driver_sql(statement.text, bound, {"no_parameters": bound is None})


def run(connection: Connection, statements: Sequence[Statement], *, last: bool = False) -> list[int]:
    """Runs statements that give no rows; how many rows each has changed.

    MySQL gets as many in one packet as fit: a thread that waits for an answer
    waits for Python's lock, too, before it goes on. `last`: nothing follows in
    this transaction, so that the last packet also commits. Raises
    PacketTooLargeError, and the driver's errors as SQLAlchemy does, with COMMIT
    as the statement of one that came when all of them had been run.
    """
    if not statements:
        return []
    if _binds(connection):
        return [_execute(connection, statement).rowcount for statement in statements]
    texts = [*(statement.text for statement in statements), *[COMMIT] * last]
    driver: Any = connection.connection.dbapi_connection
    together = "; ".join(texts)
    if len(texts) == 1 or (driver.takes_several and driver.fits(together)):
        counts = _run_packet(connection, driver, together, len(statements))
    else:
        counts = [
            count
            for place, text in enumerate(texts)
            for count in _run_packet(connection, driver, text, int(place < len(statements)))
        ]
    driver.committed = last
    return counts[: len(statements)]


def _run_packet(connection: Connection, driver: Any, text: str, changes: int) -> list[int]:
    """Runs the statements in `text`, of which the first `changes` are not the COMMIT; the rows of each."""
    counts: list[int] = []
    try:
        with driver.cursor() as cursor:
            cursor.execute(text)
            counts.append(cursor.rowcount)
            # The first one that fails ends the packet, and with it the commit.
            while cursor.nextset():
                counts.append(cursor.rowcount)
    except driver.Error as error:
        dialect = connection.dialect
        if dialect.is_disconnect(error, driver, None):
            connection.invalidate(error)
        shown = text[:_SHOWN] if len(counts) < changes else COMMIT
        raise DBAPIError.instance(shown, None, error, driver.Error, dialect=dialect) from error
    return counts


def insertion(
    connection: Connection, table: Table, columns: tuple[str, ...], rows: Sequence[Any]
) -> list[Statement]:
    """Adds rows, at least one, each a sequence of values in the order of the columns.

    One statement, or as many as it takes to fit each into a packet.
    """
    statement = Statement(connection, table)
    into = f"INSERT INTO {table.name} ({_names(connection.dialect, columns)}) VALUES "
    by_column = zip(columns, zip(*rows, strict=True), strict=True)
    if _binds(connection):
        # Once for each row, with its values.
        statement.text = f"{into}({', '.join('?' * len(columns))})"
        writers = [(statement.writers[name], values) for name, values in by_column]
        statement.bound = list(
            zip(*(values if write is None else map(write, values) for write, values in writers), strict=True)
        )
        return [statement]
    texts = []
    for name, values in by_column:
        # Most columns of new rows are the same in all: such a value is written once.
        if values.count(values[0]) == len(values):
            texts.append(statement.put(name, values[:1]) * len(values))
        else:
            texts.append(statement.put(name, values))
    written = [f"({', '.join(row)})" for row in zip(*texts, strict=True)]
    statement.text = into + ", ".join(written)
    driver: Any = connection.connection.dbapi_connection
    if len(written) == 1 or driver.fits(statement.text):
        return [statement]
    middle = len(rows) // 2
    return [
        part
        for half in (rows[:middle], rows[middle:])
        for part in insertion(connection, table, columns, half)
    ]


#: With `most`, how many bytes of a row were not read.
UNREAD = "unread"


def select_all(
    connection: Connection,
    table: Table,
    columns: tuple[str, ...],
    ids: Sequence[str],
    *,
    lock: bool = False,
    most: int | None = None,
) -> list[dict[str, Any]]:
    """Those of the rows with these ids that there are; with `lock` nobody changes them until the commit.

    With `most`, JSON of more bytes than that is not read, but None, and UNREAD
    in each row says how many bytes that were.
    """
    if not ids:
        return []
    statement = Statement(connection, table)
    (key,) = table.primary_key.columns.keys()
    wanted = _names(connection.dialect, columns) if most is None else _sized(connection, table, columns, most)
    # SQLite locks the whole database when the transaction begins.
    locking = " FOR UPDATE" if lock and not _binds(connection) else ""
    statement.text = (
        f"SELECT {wanted} FROM {table.name}{_by_key(connection)} "
        f"WHERE {key} IN ({', '.join(statement.put(key, dict.fromkeys(ids)))}){locking}"
    )
    found = _execute(connection, statement).all()
    readers = [(name, _readers(table, connection.dialect)[name]) for name in columns]
    if most is not None:
        readers.append((UNREAD, None))
    return [
        {
            name: value if read is None else read(value)
            for (name, read), value in zip(readers, row, strict=True)
        }
        for row in found
    ]


def _sized(connection: Connection, table: Table, columns: tuple[str, ...], most: int) -> str:
    """What is selected of `columns` and UNREAD, where JSON of more than `most` bytes is not to be read."""
    parts, sizes = [], ["0"]
    for name in columns:
        quoted = _names(connection.dialect, (name,))
        if isinstance(table.c[name].type, JsonMap):
            # SQLite counts characters of a text.
            size = f"LENGTH(CAST({quoted} AS BLOB))" if _binds(connection) else f"LENGTH({quoted})"
            sizes.append(f"CASE WHEN {size} > {most} THEN {size} ELSE 0 END")
            quoted = f"CASE WHEN {size} <= {most} THEN {quoted} END"
        parts.append(quoted)
    return ", ".join([*parts, " + ".join(sizes)])


def change(
    connection: Connection,
    table: Table,
    ids: Sequence[str],
    values: Mapping[str, Sequence[Any]],
    where: Mapping[str, Any],
) -> Statement:
    """Sets columns of the rows with these ids that also are as `where` says.

    `values` has for each column a value for each id.
    """
    statement = Statement(connection, table)
    (key,) = table.primary_key.columns.keys()

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
    among = f"{key} IN ({', '.join(statement.put(key, ids))})"
    held = "".join(f" AND {equal(name, value)}" for name, value in where.items())
    statement.text = f"UPDATE {table.name}{_by_key(connection)} SET {', '.join(parts)} WHERE {among}{held}"
    return statement


def _by_key(connection: Connection) -> str:
    # Where a condition names another indexed column, too, MySQL weighs both for each id.
    return "" if _binds(connection) else " FORCE INDEX (PRIMARY)"
