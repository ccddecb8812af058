"""Statements on `task_log`, which only grows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import LargeBinary, case, cast, func, select
from sqlalchemy.engine import Connection

from atm.models import TaskLog
from atm.states import LogType, Status
from atm.store import bulk
from atm.values import storable

LOG = TaskLog.__table__  # type: ignore[attr-defined]

#: The longest message that is kept, in characters: a traceback fits, a dump does not.
MAX_MESSAGE = 16_000
#: ... and what `clip` says of what is missing.
_MAX_SHOWN = MAX_MESSAGE + 100
_MAX_BYTES = 4 * _MAX_SHOWN + 512


def clip(text: str, most: int = MAX_MESSAGE) -> str:
    """The text, cut to so many characters with a word on how much is missing."""
    more = len(text) - most
    return text if more <= 0 else f"{text[:most]}… ({more} more characters)"


class NewRow(NamedTuple):
    """A row to add: the columns of TaskLog."""

    task_id: str
    log_type: LogType
    message: str
    created_at: datetime
    from_status: str = ""
    to_status: str = ""
    worker_id: str = ""
    attempt: int = 0


def add(connection: Connection, rows: Sequence[NewRow]) -> None:
    """Adds rows, in this order."""
    bulk.run(connection, addition(connection, rows))


def addition(connection: Connection, rows: Sequence[NewRow]) -> list[bulk.Statement]:
    """What adds rows, in this order: a statement, or none."""
    kept = [(*row[:2], clip(storable(row.message)), *row[3:]) for row in rows]
    return bulk.insertion(connection, LOG, NewRow._fields, kept) if kept else []


def ends_of(connection: Connection, task_id: str, attempt: int, worker_id: str) -> Sequence[tuple[str, str]]:
    """The state and the message of each row that says that a worker's attempt ended."""
    query = select(LOG.c.to_status, LOG.c.message).where(
        LOG.c.task_id == task_id,
        LOG.c.attempt == attempt,
        LOG.c.worker_id == worker_id,
        LOG.c.from_status == Status.PROCESSING,
    )
    return [(row.to_status, row.message) for row in connection.execute(query)]


def sizes(connection: Connection, task_id: str, after: int, limit: int) -> Sequence[tuple[int, int]]:
    """For up to `limit` rows of a task after the one with this id: the id, and the bytes of the texts."""
    size = _message_bytes(connection) + func.length(LOG.c.worker_id)
    query = (
        select(LOG.c.log_id, size)
        .where(LOG.c.task_id == task_id, LOG.c.log_id > after)
        .order_by(LOG.c.log_id)
        .limit(limit)
    )
    # No message is shown longer than it may be.
    return [(row[0], min(row[1], _MAX_BYTES)) for row in connection.execute(query)]


def between(connection: Connection, task_id: str, after: int, last: int) -> list[TaskLog]:
    """The rows of a task after the one with the id `after`, up to that with the id `last`, oldest first."""
    return _shown(connection, LOG.c.task_id == task_id, LOG.c.log_id > after, LOG.c.log_id <= last)


def newest_change(connection: Connection, task_id: str, after: int) -> TaskLog | None:
    """The newest row of a task that changes its state, if it comes after the one with this id."""
    newest = (
        select(LOG.c.log_id)
        .where(LOG.c.task_id == task_id, LOG.c.log_id > after, LOG.c.to_status != "")
        .order_by(LOG.c.log_id.desc())
        .limit(1)
    )
    log_id = connection.execute(newest).scalar_one_or_none()
    return None if log_id is None else _shown(connection, LOG.c.log_id == log_id)[0]


def count_after(connection: Connection, task_id: str, after: int) -> int:
    """How many rows of a task come after the one with this id."""
    query = select(func.count()).where(LOG.c.task_id == task_id, LOG.c.log_id > after)
    return int(connection.execute(query).scalar_one())


def _message_bytes(connection: Connection) -> Any:
    # SQLite counts characters of a text, up to the first NUL.
    is_sqlite = connection.dialect.name == "sqlite"
    return func.length(cast(LOG.c.message, LargeBinary) if is_sqlite else LOG.c.message)


def _shown(connection: Connection, *clauses: Any) -> list[TaskLog]:
    """Rows by their ids; a message that is too long, as from an import, is cut."""
    # Of what has a NUL, SQLite cuts more.
    is_short = _message_bytes(connection) <= _MAX_BYTES
    cut = func.substr(LOG.c.message, 1, _MAX_SHOWN)
    message = case((is_short, LOG.c.message), else_=cut).label("message")
    columns = [message if column.name == "message" else column for column in LOG.c]
    query = select(*columns).where(*clauses).order_by(LOG.c.log_id)
    return [TaskLog.model_construct(**row) for row in connection.execute(query).mappings()]


class Size(NamedTuple):
    """How many rows, and bytes of UTF-8 in their messages."""

    rows: int
    bytes: int


def size(connection: Connection, task_id: str) -> Size:
    """The size of a history. Reads all of it."""
    query = select(func.count(), func.coalesce(func.sum(_message_bytes(connection)), 0)).where(
        LOG.c.task_id == task_id
    )
    rows, length = connection.execute(query).one()
    return Size(int(rows), int(length))


def newest_message(connection: Connection, task_id: str) -> str | None:
    """The message of the last row of a history."""
    query = select(LOG.c.message).where(LOG.c.task_id == task_id).order_by(LOG.c.log_id.desc()).limit(1)
    message: str | None = connection.execute(query).scalar()
    return message


def of_task(connection: Connection, task_id: str) -> Sequence[TaskLog]:
    """The whole history of a task, oldest first, however large."""
    query = select(LOG).where(LOG.c.task_id == task_id).order_by(LOG.c.log_id)
    return [TaskLog.model_construct(**row) for row in connection.execute(query).mappings()]
