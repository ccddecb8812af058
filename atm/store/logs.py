"""Statements on `task_log`, which only grows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from atm.models import LogType, TaskLog
from atm.values import storable

LOG = TaskLog.__table__  # type: ignore[attr-defined]

#: The longest message that is kept, in characters: a traceback fits, a dump does not.
MAX_MESSAGE = 16_000


def clip(text: str, limit: int = MAX_MESSAGE) -> str:
    """The text, cut to `limit` characters with a word on how much is missing."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit} more characters)"


def row(task_id: str, log_type: LogType, message: str, at: datetime, **values: Any) -> TaskLog:
    """A row to add. Unlike TaskLog(...) it checks nothing, which takes seven times as long."""
    return TaskLog.model_construct(
        task_id=task_id, log_type=log_type, message=message, created_at=at, **values
    )


def add(connection: Connection, *rows: TaskLog) -> None:
    """Adds rows, in this order."""
    values = [row.model_dump(exclude={"log_id"}) | {"message": clip(storable(row.message))} for row in rows]
    if values:
        connection.execute(insert(LOG), values)


def of_task(connection: Connection, task_id: str) -> Sequence[TaskLog]:
    """The history of a task, oldest first."""
    query = select(LOG).where(LOG.c.task_id == task_id).order_by(LOG.c.log_id)
    return [TaskLog.model_construct(**row) for row in connection.execute(query).mappings()]
