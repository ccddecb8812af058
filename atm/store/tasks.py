"""Statements on `task`. Each change of a state is a compare-and-set with its log row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import and_, delete, func, select, update
from sqlalchemy.engine import Connection

from atm.models import Task
from atm.states import TRANSITIONS, LogType, Status
from atm.store import bulk, logs
from atm.store.database import UndoneError
from atm.store.logs import NewRow

TASK = Task.__table__  # type: ignore[attr-defined]

_COLUMNS = tuple(column.name for column in TASK.c)
_BIRTH = itemgetter(_COLUMNS.index("task_id"), _COLUMNS.index("created_at"))


def insert_tasks(connection: Connection, items: Sequence[Task]) -> Sequence[Task]:
    """Adds PENDING tasks, and the first row of the history of each: the last thing in its transaction."""
    rows = [list(map(task.__dict__.__getitem__, _COLUMNS)) for task in items]
    born = [
        NewRow(task_id, LogType.STATE_CHANGE, "task created", created_at, "", Status.PENDING)
        for task_id, created_at in map(_BIRTH, rows)
    ]
    statements = [*bulk.insertion(connection, TASK, _COLUMNS, rows), *logs.addition(connection, born)]
    bulk.run(connection, statements, last=True)
    return items


def get(connection: Connection, task_id: str) -> Task | None:
    """The task with this id, or None."""
    return get_all(connection, [task_id]).get(task_id)


def get_all(connection: Connection, task_ids: Sequence[str]) -> dict[str, Task]:
    """Those of these tasks that there are."""
    rows = bulk.select_all(connection, TASK, _COLUMNS, task_ids)
    return {row["task_id"]: Task.of_checked(row) for row in rows}


#: What a worker has to know of a task to start it, and what decides whether it may.
START_COLUMNS = (
    *("task_id", "task_type", "status", "priority", "payload", "attempt"),
    *("retry_count", "max_retry", "timeout_ms", "due_at"),
)
#: What decides what becomes of a task whose attempt has ended.
END_COLUMNS = (
    *("task_id", "status", "attempt", "worker_id", "retry_count", "max_retry", "timeout_ms"),
    *("retry_strategy", "retry_delay_ms", "retry_backoff_rate", "retry_max_delay_ms"),
    *("cancel_requested_at", "cancel_requested_by"),
)


def lock(
    connection: Connection, task_ids: Sequence[str], columns: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """These columns of those of these tasks that there are; nobody changes them until the commit."""
    rows = bulk.select_all(connection, TASK, columns, task_ids, lock=True)
    return {row["task_id"]: row for row in rows}


@dataclass(frozen=True)
class Filter:
    """Which tasks are meant. None: any."""

    status: Status | None = None
    priority: int | None = None
    task_type: str | None = None

    def clauses(self) -> list[Any]:
        wanted = {
            TASK.c.status: self.status,
            TASK.c.priority: self.priority,
            TASK.c.task_type: self.task_type,
        }
        return [column == value for column, value in wanted.items() if value is not None]


def page(
    connection: Connection, wanted: Filter, *, limit: int, offset: int = 0, after: str = ""
) -> list[Task]:
    """Up to `limit` tasks that match, newest first, from an offset or after the one with this id."""
    # Ids are UUIDs of version 7: their order is the order of creation.
    query = select(TASK).where(*wanted.clauses()).order_by(TASK.c.task_id.desc()).limit(limit)
    query = query.where(TASK.c.task_id < after) if after else query.offset(offset)
    return [Task.of_checked(row) for row in connection.execute(query).mappings()]


def count(connection: Connection, wanted: Filter) -> int:
    """How many tasks match."""
    query = select(func.count()).select_from(TASK).where(*wanted.clauses())
    return int(connection.execute(query).scalar_one())


def count_by(connection: Connection, column: str) -> dict[str, int]:
    """How many tasks there are for each value of `status` or `task_type`."""
    key = TASK.c[column]
    rows = connection.execute(select(key, func.count().label("total")).group_by(key))
    counts: dict[str, int] = {}
    for name, total in rows:
        # Odd values may read alike.
        counts[name] = counts.get(name, 0) + total
    return counts


class Move(NamedTuple):
    """A change of a task's state, for whoever holds (`from_status`, `attempt`).

    `values` are further columns to set; `log_type` and `message` make the one
    log row that the change gets. `before` and `after` are rows of the task's
    history that stand right beside it.
    """

    task_id: str
    from_status: Status
    attempt: int
    to_status: Status
    message: str
    worker_id: str = ""
    log_type: LogType = LogType.STATE_CHANGE
    values: Mapping[str, Any] = MappingProxyType({})
    before: Sequence[NewRow] = ()
    after: Sequence[NewRow] = ()

    def rows(self, now: datetime) -> list[NewRow]:
        """What it adds to the history."""
        own = NewRow(
            self.task_id,
            self.log_type,
            self.message,
            now,
            self.from_status,
            self.to_status,
            self.worker_id,
            int(self.values.get("attempt", self.attempt)),
        )
        return [*self.before, own, *self.after] if self.before or self.after else [own]


class LostRaceError(UndoneError):
    """One of several tasks was not in the state that it was thought to be in."""


def move(connection: Connection, change: Move, now: datetime) -> bool:
    """Makes the change and adds its log row; False, and nothing, when someone else was faster."""
    # The row only when the change is made: this transaction may be committed anyway.
    if bulk.run(connection, [_change(connection, [change], now)]) != [1]:
        return False
    logs.add(connection, change.rows(now))
    return True


def move_all(
    connection: Connection,
    changes: Sequence[Move],
    now: datetime,
    remarks: Sequence[NewRow] = (),
    *,
    locked: bool = False,
) -> None:
    """Makes all changes, of different tasks, and adds their log rows and `remarks`, in few statements.

    Raises LostRaceError when someone else was faster with one of them: then
    the transaction must not be committed. `locked`: nobody can have been, for
    the rows were read and locked in this transaction, which ends here: it is
    committed at once.
    """
    alike: dict[Any, list[Move]] = {}
    for change in changes:
        kind = (change.from_status, change.attempt, change.to_status, *change.values)
        alike.setdefault(kind, []).append(change)
    groups = list(alike.values())
    rows = [row for change in changes for row in change.rows(now)]
    statements = [_change(connection, group, now) for group in groups]
    statements += logs.addition(connection, [*rows, *remarks])
    counts = bulk.run(connection, statements, last=locked)
    if counts[: len(groups)] != [len(group) for group in groups]:
        assert not locked, "a locked row was changed by another"
        raise LostRaceError


def _change(connection: Connection, group: Sequence[Move], now: datetime) -> bulk.Statement:
    """For changes between the same states that set the same columns. Raises ValueError for no transition."""
    first = group[0]
    if first.to_status not in TRANSITIONS[first.from_status]:
        raise ValueError(f"{first.from_status} never becomes {first.to_status}")
    columns: dict[str, list[Any]] = {"status": [first.to_status] * len(group)}
    columns |= {name: [change.values[name] for change in group] for name in first.values}
    if not TRANSITIONS[first.to_status]:
        columns["completed_at"] = [now] * len(group)
    held = {"status": first.from_status, "attempt": first.attempt}
    return bulk.change(connection, TASK, [change.task_id for change in group], columns, held)


def touch(connection: Connection, task_id: str, attempt: int, values: Mapping[str, Any]) -> bool:
    """Sets columns of a task that stays PROCESSING; False when it no longer is in that attempt."""
    held = and_(TASK.c.task_id == task_id, TASK.c.status == Status.PROCESSING, TASK.c.attempt == attempt)
    return connection.execute(update(TASK).where(held).values(values)).rowcount == 1


def holds(connection: Connection, task_id: str, attempt: int) -> bool:
    """Whether the attempt still holds the task; if so, the row stays locked until the commit."""
    query = select(TASK.c.task_id).where(
        TASK.c.task_id == task_id, TASK.c.status == Status.PROCESSING, TASK.c.attempt == attempt
    )
    return connection.execute(query.with_for_update()).first() is not None


class State(NamedTuple):
    """What a worker wants to know of a task that it runs."""

    status: str
    attempt: int
    cancel_requested_at: datetime | None
    cancel_requested_by: str


def states(connection: Connection, task_ids: Sequence[str]) -> dict[str, State]:
    """The state of each task that there is."""
    if not task_ids:
        return {}
    columns = [TASK.c[name] for name in State._fields]
    rows = connection.execute(select(TASK.c.task_id, *columns).where(TASK.c.task_id.in_(task_ids)))
    return {row[0]: State(*row[1:]) for row in rows}


class Dispatch(NamedTuple):
    """What a message says of a task: which, which attempt is next, how urgent."""

    task_id: str
    next_attempt: int
    priority: int


def due_for_dispatch(connection: Connection, now: datetime, limit: int) -> tuple[list[Dispatch], timedelta]:
    """PENDING tasks that should have their message by now, and how long each has been due at least."""
    # No other task has a dispatch_at; asked for the status, a database may take that index.
    query = (
        select(TASK.c.task_id, TASK.c.attempt, TASK.c.priority, TASK.c.due_at)
        .where(TASK.c.dispatch_at <= now)
        .order_by(TASK.c.dispatch_at)
        .limit(limit)
    )
    rows = connection.execute(query).all()
    due = [Dispatch(row.task_id, row.attempt + 1, row.priority) for row in rows]
    return due, now - max((row.due_at for row in rows), default=now)


def postpone_dispatch(
    connection: Connection, sent: Sequence[Dispatch], now: datetime, wait: timedelta
) -> None:
    """Lets the relay look at these again only after `wait`, if they still wait for the attempt that was sent.

    A worker may have run that attempt already: then the next one has a time of its own.
    """
    by_attempt: dict[int, list[str]] = {}
    for task in sent:
        by_attempt.setdefault(task.next_attempt - 1, []).append(task.task_id)
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


def prune(connection: Connection, before: datetime, limit: int) -> int:
    """Deletes up to `limit` tasks that ended before this moment, and their logs; how many they were."""
    query = (
        select(TASK.c.task_id).where(TASK.c.completed_at < before).order_by(TASK.c.completed_at).limit(limit)
    )
    ids = list(connection.execute(query).scalars())
    if ids:
        connection.execute(delete(logs.LOG).where(logs.LOG.c.task_id.in_(ids)))
        connection.execute(delete(TASK).where(TASK.c.task_id.in_(ids)))
    return len(ids)


def of_requests(connection: Connection, request_ids: Sequence[str]) -> dict[str, Task]:
    """The tasks that these requests have made, by request."""
    rows = connection.execute(select(TASK).where(TASK.c.request_id.in_(request_ids))).mappings()
    return {row["request_id"]: Task.of_checked(row) for row in rows}


def held_by(connection: Connection, worker_id: str, limit: int) -> list[Task]:
    """The tasks that a worker is running, as far as SQL knows."""
    query = select(TASK).where(TASK.c.status == Status.PROCESSING, TASK.c.worker_id == worker_id).limit(limit)
    return [Task.of_checked(row) for row in connection.execute(query).mappings()]


def overdue(connection: Connection, before: datetime, limit: int) -> list[Task]:
    """PROCESSING tasks whose attempt should have ended before this moment."""
    query = (
        select(TASK)
        .where(TASK.c.status == Status.PROCESSING, TASK.c.deadline_at < before)
        .order_by(TASK.c.deadline_at)
        .limit(limit)
    )
    return [Task.of_checked(row) for row in connection.execute(query).mappings()]


def holders(connection: Connection) -> set[str]:
    """The ids of all workers that hold a task."""
    query = select(TASK.c.worker_id).where(TASK.c.status == Status.PROCESSING).distinct()
    return set(connection.execute(query).scalars())
