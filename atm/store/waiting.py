"""Statements on tasks that wait: which are due, and when the relay looks at them.

Every PENDING task, and no other one, has a `dispatch_at`: the moment from
which the relay sees to its message. Tasks that wait are looked for by their
list, which is their type and priority.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import TextualSelect, and_, bindparam, or_, select, text, tuple_, update
from sqlalchemy.engine import Connection

from atm.columns import UtcDateTime
from atm.lists import Hint, TaskList, list_for
from atm.states import Status
from atm.store.tasks import TASK

#: The relay looks at a task that is due again after this at the latest.
AGAIN_LATEST = timedelta(minutes=10)
#: How many lists are looked at in one statement: SQLite takes 500 at most.
_LISTS = 100


class Due(NamedTuple):
    """A task that is due, since when, and the type and priority that its row has."""

    hint: Hint
    due_at: datetime
    found_in: TaskList


def task_lists(connection: Connection) -> list[TaskList]:
    """Every type and priority of which there are tasks, ended ones too."""
    found: list[TaskList] = []
    kind, priority = TASK.c.task_type, TASK.c.priority
    # A step from list to list in the index, however many tasks there are in each.
    first = select(kind, priority).order_by(kind, priority).limit(1)
    first = first.with_hint(TASK, "FORCE INDEX (ix_task_waiting)", "mysql")
    row = connection.execute(first).first()
    while row is not None:
        found.append(TaskList(*row))
        # Each database finds the place of only one of these in the index.
        if connection.dialect.name == "sqlite":
            later = tuple_(kind, priority) > tuple_(*row)
        else:
            later = or_(and_(kind == row[0], priority > row[1]), kind > row[0])
        row = connection.execute(first.where(later)).first()
    return found


def due(
    connection: Connection, lists: Sequence[TaskList], now: datetime, dispatch_by: datetime, limit: int
) -> list[Due]:
    """Tasks of these lists that are due, up to `limit` of each list.

    Of each list first those that the relay has had to look at for longest;
    none that it has to look at only after `dispatch_by`.
    """
    found: list[Due] = []
    for start in range(0, len(lists), _LISTS):
        some = lists[start : start + _LISTS]
        values: dict[str, Any] = {"now": now, "dispatch_by": dispatch_by, "most": limit}
        for place, of in enumerate(some):
            values |= {f"type_{place}": of.task_type, f"priority_{place}": of.priority}
        rows = connection.execute(_heads(len(some)), values)
        for task_id, attempt, priority, task_type, due_at in rows:
            hint = Hint(task_id, attempt + 1, list_for(task_type, priority))
            found.append(Due(hint, due_at, TaskList(task_type, priority)))
    return found


@cache
def _heads(count: int) -> TextualSelect:
    """The heads of so many lists in one statement, as text: SQLAlchemy takes milliseconds to build it."""
    columns = (TASK.c.task_id, TASK.c.attempt, TASK.c.priority, TASK.c.task_type, TASK.c.due_at)
    names = ", ".join(column.name for column in columns)
    parts = [
        f"SELECT * FROM (SELECT {names} FROM task WHERE task_type = :type_{place}"  # noqa: S608 - only names
        f" AND priority = :priority_{place} AND dispatch_at <= :dispatch_by AND due_at <= :now"
        f" ORDER BY dispatch_at LIMIT :most) AS list_{place}"
        for place in range(count)
    ]
    moments = [bindparam(name, type_=UtcDateTime) for name in ("now", "dispatch_by")]
    return text(" UNION ALL ".join(parts)).bindparams(*moments).columns(*columns)


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
        dispatch_now(connection, ids, now)
    return ids[-1] if len(ids) == limit else None


def dispatch_now(connection: Connection, task_ids: Sequence[str], now: datetime) -> None:
    """Puts those of these tasks up for the relay that are PENDING and due."""
    waits = and_(TASK.c.task_id.in_(task_ids), TASK.c.status == Status.PENDING, TASK.c.due_at <= now)
    connection.execute(update(TASK).where(waits).values(dispatch_at=now))
