"""Statements on `task_log`, which only grows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import LargeBinary, cast, func, select
from sqlalchemy.engine import Connection

from atm.models import TaskLog
from atm.states import LogType, Status
from atm.store import bulk
from atm.values import storable

LOG = TaskLog.__table__  # type: ignore[attr-defined]

#: The longest message that is kept, in characters: a traceback fits, a dump does not.
MAX_MESSAGE = 16_000


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


class Size(NamedTuple):
    """How many rows, and bytes of UTF-8 in their messages."""

    rows: int
    bytes: int


def size(connection: Connection, task_id: str) -> Size:
    """The size of a history. Reads all of it."""
    # SQLite's length() of a text counts characters.
    length = func.length(cast(LOG.c.message, LargeBinary))
    query = select(func.count(), func.coalesce(func.sum(length), 0)).where(LOG.c.task_id == task_id)
    rows, total = connection.execute(query).one()
    return Size(int(rows), int(total))


def newest_message(connection: Connection, task_id: str) -> str | None:
    """The message of the last row of a history."""
    query = select(LOG.c.message).where(LOG.c.task_id == task_id).order_by(LOG.c.log_id.desc()).limit(1)
    message: str | None = connection.execute(query).scalar()
    return message


def of_task(connection: Connection, task_id: str) -> Sequence[TaskLog]:
    """The history of a task, oldest first."""
    query = select(LOG).where(LOG.c.task_id == task_id).order_by(LOG.c.log_id)
    return [TaskLog.model_construct(**row) for row in connection.execute(query).mappings()]
