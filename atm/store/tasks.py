"""Statements on `task`. Each change of a state is a compare-and-set with its log row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
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
_VALUE_COLUMNS = ("task_id", "payload", "result")
_BASIC_COLUMNS = tuple(name for name in _COLUMNS if name not in ("payload", "result"))
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


def get(connection: Connection, task_id: str, most: int | None = None) -> Task | None:
    """The task with this id, or None; for `most` see `get_all`."""
    return get_all(connection, [task_id], most).get(task_id)


def get_all(connection: Connection, task_ids: Sequence[str], most: int | None = None) -> dict[str, Task]:
    """Those of these tasks that there are.

    With `most`, a payload or result of more bytes of JSON is not read: it is
    empty, and the task's `unread` says how many bytes are missing.
    """
    rows = bulk.select_all(connection, TASK, _COLUMNS, task_ids, most=most)
    return {row["task_id"]: Task.of_checked(row) for row in rows}


def get_basic(connection: Connection, task_ids: Sequence[str]) -> dict[str, Task]:
    """Those of these tasks that there are, without payload and result."""
    rows = bulk.select_all(connection, TASK, _BASIC_COLUMNS, task_ids)
    return {row["task_id"]: Task.of_checked({**row, "payload": {}}) for row in rows}


def read_values(connection: Connection, items: Sequence[Task]) -> None:
    """Reads what is unread of these tasks. What is not there any more is marked as omitted."""
    ids = [task.task_id for task in items]
    rows = {row["task_id"]: row for row in bulk.select_all(connection, TASK, _VALUE_COLUMNS, ids)}
    for task in items:
        if row := rows.get(task.task_id):
            task.__dict__.update(row)
            task.__dict__["unread"] = 0
        else:
            task.omit_unread()


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
    """The tasks of `page_ids`, whole: only for few, or small ones."""
    ids = page_ids(connection, wanted, limit=limit, offset=offset, after=after)
    found = get_all(connection, ids)
    return [found[task_id] for task_id in ids if task_id in found]


def page_ids(
    connection: Connection, wanted: Filter, *, limit: int, offset: int = 0, after: str = ""
) -> list[str]:
    """The ids of up to `limit` tasks that match, newest first, from an offset or after the one with this id.

    What is read of them is then bounded by whoever asks: a page can be larger
    than the memory of a server.
    """
    # Ids are UUIDs of version 7: their order is the order of creation.
    query = select(TASK.c.task_id).where(*wanted.clauses()).order_by(TASK.c.task_id.desc()).limit(limit)
    # It begins with the type, too, and does not have them in this order.
    query = query.with_hint(TASK, "IGNORE INDEX (ix_task_waiting)", "mysql")
    query = query.where(TASK.c.task_id < after) if after else query.offset(offset)
    return list(connection.execute(query).scalars())


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


def of_requests(
    connection: Connection, request_ids: Sequence[str], most: int | None = None
) -> dict[str, Task]:
    """The tasks that these requests have made, by request; for `most` see `get_all`."""
    query = select(TASK.c.task_id).where(TASK.c.request_id.in_(request_ids))
    found = get_all(connection, list(connection.execute(query).scalars()), most)
    return {str(task.request_id): task for task in found.values()}


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
