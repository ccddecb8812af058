"""Statements on tasks that wait: which are due, and when the relay looks at them.

Every PENDING task, and no other one, has a `dispatch_at`: the moment from
which the relay sees to its message. Tasks that wait are looked for by their
list, which is their type and priority.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import and_, select, text, union_all, update
from sqlalchemy.engine import Connection

from atm.lists import Hint, TaskList
from atm.states import Status
from atm.store.tasks import TASK

#: How many lists are looked at in one statement: SQLite takes 500 at most.
_LISTS = 100

# A step from type to type in the index, however many tasks there are of each.
_TYPES = text(
    "WITH RECURSIVE types (task_type) AS (SELECT MIN(task_type) FROM task UNION ALL"
    " SELECT (SELECT MIN(task.task_type) FROM task WHERE task.task_type > types.task_type) FROM types"
    " WHERE types.task_type IS NOT NULL) SELECT task_type FROM types WHERE task_type IS NOT NULL"
)


class Due(NamedTuple):
    """A task that is due, and since when."""

    hint: Hint
    due_at: datetime


def task_types(connection: Connection) -> list[str]:
    """Every type of which there are tasks, ended ones too."""
    return list(connection.execute(_TYPES).scalars())


def due(
    connection: Connection, lists: Sequence[TaskList], now: datetime, dispatch_by: datetime, limit: int
) -> list[Due]:
    """Tasks of these lists that are due, up to `limit` of each list.

    Of each list first those that the relay has had to look at for longest;
    none that it has to look at only after `dispatch_by`.
    """
    found: list[Due] = []
    columns = (TASK.c.task_id, TASK.c.attempt, TASK.c.priority, TASK.c.task_type, TASK.c.due_at)
    for start in range(0, len(lists), _LISTS):
        parts = []
        for task_type, priority in lists[start : start + _LISTS]:
            of_list = and_(TASK.c.task_type == task_type, TASK.c.priority == priority)
            waits = and_(of_list, TASK.c.dispatch_at <= dispatch_by, TASK.c.due_at <= now)
            part = select(*columns).where(waits).order_by(TASK.c.dispatch_at).limit(limit).subquery()
            parts.append(select(part))
        rows = connection.execute(union_all(*parts))
        found += [Due(Hint(row[0], row[1] + 1, TaskList(row[3], row[2])), row[4]) for row in rows]
    return found


def postpone_dispatch(connection: Connection, sent: Sequence[Hint], now: datetime, wait: timedelta) -> None:
    """Lets the relay look at these again only after `wait`, if they still wait for the attempt that was sent.

    A worker may have run that attempt already: then the next one has a time of its own.
    """
    by_attempt: dict[int, list[str]] = {}
    for task in sent:
        by_attempt.setdefault(task.attempt - 1, []).append(task.task_id)
    for attempt, ids in by_attempt.items():
        waits = and_(TASK.c.task_id.in_(ids), TASK.c.status == Status.PENDING, TASK.c.attempt == attempt)
        connection.execute(update(TASK).where(waits).values(dispatch_at=now + wait))


def dispatch_when_due(connection: Connection, task_ids: Sequence[str]) -> None:
    """Lets the relay send the next message of each of these when it is due. They are PENDING, and locked."""
    connection.execute(update(TASK).where(TASK.c.task_id.in_(task_ids)).values(dispatch_at=TASK.c.due_at))


def dispatch_again(connection: Connection, now: datetime, after: str, limit: int) -> str | None:
    """Puts up to `limit` PENDING tasks that are due up for the relay, in the order of their ids.

    `after` is the last id of the call before. Returns the last one of this
    call, None when there are no more.
    """
    waits = and_(TASK.c.status == Status.PENDING, TASK.c.due_at <= now, TASK.c.task_id > after)
    query = select(TASK.c.task_id).where(waits).order_by(TASK.c.task_id).limit(limit)
    ids = list(connection.execute(query).scalars())
    if ids:
        pending = and_(TASK.c.task_id.in_(ids), TASK.c.status == Status.PENDING)
        connection.execute(update(TASK).where(pending).values(dispatch_at=now))
    return ids[-1] if len(ids) == limit else None
