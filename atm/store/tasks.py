"""Statements on `task`. Each change of a state is a compare-and-set with its log row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import and_, delete, func, insert, select, update
from sqlalchemy.engine import Connection, RowMapping

from atm.models import TRANSITIONS, LogType, Status, Task, TaskLog
from atm.store import logs

TASK = Task.__table__  # type: ignore[attr-defined]


def _task(row: RowMapping) -> Task:
    return Task(**row)


def insert_task(connection: Connection, task: Task) -> None:
    """Adds a PENDING task and the first row of its history."""
    connection.execute(insert(TASK), task.model_dump())
    logs.add(
        connection,
        TaskLog(
            task_id=task.task_id,
            log_type=LogType.STATE_CHANGE,
            to_status=Status.PENDING,
            message="task created",
            created_at=task.created_at,
        ),
    )


def get(connection: Connection, task_id: str, *, lock: bool = False) -> Task | None:
    """The task with this id, or None. With `lock` nobody else changes it until the commit."""
    query = select(TASK).where(TASK.c.task_id == task_id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    return None if row is None else _task(row)


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


def page(connection: Connection, wanted: Filter, *, offset: int, limit: int) -> tuple[list[Task], int]:
    """Tasks that match, newest first, and how many match in all."""
    clauses = wanted.clauses()
    total = connection.execute(select(func.count()).select_from(TASK).where(*clauses)).scalar_one()
    # Ids are UUIDs of version 7: their order is the order of creation.
    query = select(TASK).where(*clauses).order_by(TASK.c.task_id.desc()).offset(offset).limit(limit)
    rows = connection.execute(query).mappings().all() if offset < total else []
    return [_task(row) for row in rows], total


def count_by(connection: Connection, column: str) -> dict[str, int]:
    """How many tasks there are for each value of `status` or `task_type`."""
    key = TASK.c[column]
    rows = connection.execute(select(key, func.count().label("total")).group_by(key))
    return {row[0]: row.total for row in rows}


@dataclass(frozen=True)
class Move:
    """A change of a task's state, for whoever holds (`from_status`, `attempt`).

    `values` are further columns to set; `log_type` and `message` make the one
    log row that the change gets.
    """

    task_id: str
    from_status: Status
    attempt: int
    to_status: Status
    message: str
    worker_id: str = ""
    log_type: LogType = LogType.STATE_CHANGE
    values: Mapping[str, Any] | None = None


def move(connection: Connection, change: Move, now: datetime) -> bool:
    """Makes the change and adds its log row; False, and nothing, when someone else was faster."""
    if change.to_status not in TRANSITIONS[change.from_status]:
        raise ValueError(f"{change.from_status} never becomes {change.to_status}")
    values: dict[str, Any] = {"status": change.to_status, **(change.values or {})}
    if not TRANSITIONS[change.to_status]:
        values["completed_at"] = now
    changed = connection.execute(update(TASK).where(_held(change)).values(values)).rowcount
    if changed != 1:
        return False
    logs.add(
        connection,
        TaskLog(
            task_id=change.task_id,
            log_type=change.log_type,
            from_status=change.from_status,
            to_status=change.to_status,
            message=change.message,
            worker_id=change.worker_id,
            attempt=int(values.get("attempt", change.attempt)),
            created_at=now,
        ),
    )
    return True


def _held(change: Move) -> Any:
    return and_(
        TASK.c.task_id == change.task_id,
        TASK.c.status == change.from_status,
        TASK.c.attempt == change.attempt,
    )


def touch_progress(connection: Connection, task_id: str, attempt: int, fraction: float, message: str) -> bool:
    """Records what the handler reported; False when the attempt no longer holds the task."""
    return _touch(connection, task_id, attempt, {"progress": fraction, "progress_message": message})


def holds(connection: Connection, task_id: str, attempt: int) -> bool:
    """Whether the attempt still holds the task; if so, the row stays locked until the commit."""
    query = select(TASK.c.task_id).where(
        TASK.c.task_id == task_id, TASK.c.status == Status.PROCESSING, TASK.c.attempt == attempt
    )
    return connection.execute(query.with_for_update()).first() is not None


def mark_cancel_requested(
    connection: Connection, task_id: str, attempt: int, requested_by: str, now: datetime
) -> bool:
    """Notes that a PROCESSING task shall end; False when it no longer is in that attempt."""
    return _touch(
        connection, task_id, attempt, {"cancel_requested_at": now, "cancel_requested_by": requested_by}
    )


def _touch(connection: Connection, task_id: str, attempt: int, values: dict[str, Any]) -> bool:
    held = and_(TASK.c.task_id == task_id, TASK.c.status == Status.PROCESSING, TASK.c.attempt == attempt)
    return connection.execute(update(TASK).where(held).values(values)).rowcount == 1


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


@dataclass(frozen=True)
class Dispatch:
    """What a message says of a task: which, which attempt is next, how urgent."""

    task_id: str
    next_attempt: int
    priority: int


def due_for_dispatch(connection: Connection, now: datetime, limit: int) -> list[Dispatch]:
    """PENDING tasks that should have their message by now, the longest due first."""
    query = (
        select(TASK.c.task_id, TASK.c.attempt, TASK.c.priority)
        .where(TASK.c.status == Status.PENDING, TASK.c.dispatch_at <= now)
        .order_by(TASK.c.dispatch_at)
        .limit(limit)
    )
    return [Dispatch(row.task_id, row.attempt + 1, row.priority) for row in connection.execute(query)]


def postpone_dispatch(
    connection: Connection, task_ids: Sequence[str], now: datetime, wait: timedelta
) -> None:
    """Lets the relay look at these again only after `wait`, if they are still PENDING then."""
    pending = and_(TASK.c.task_id.in_(task_ids), TASK.c.status == Status.PENDING)
    connection.execute(update(TASK).where(pending).values(dispatch_at=now + wait))


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


def of_request(connection: Connection, request_id: str) -> Task | None:
    """The task that a request has made, or None."""
    row = connection.execute(select(TASK).where(TASK.c.request_id == request_id)).mappings().first()
    return None if row is None else _task(row)


def held_by(connection: Connection, worker_id: str, limit: int) -> list[Task]:
    """The tasks that a worker is running, as far as SQL knows."""
    query = select(TASK).where(TASK.c.status == Status.PROCESSING, TASK.c.worker_id == worker_id).limit(limit)
    return [_task(row) for row in connection.execute(query).mappings()]


def overdue(connection: Connection, before: datetime, limit: int) -> list[Task]:
    """PROCESSING tasks whose attempt should have ended before this moment."""
    query = (
        select(TASK)
        .where(TASK.c.status == Status.PROCESSING, TASK.c.deadline_at < before)
        .order_by(TASK.c.deadline_at)
        .limit(limit)
    )
    return [_task(row) for row in connection.execute(query).mappings()]


def holders(connection: Connection) -> set[str]:
    """The ids of all workers that hold a task."""
    query = select(TASK.c.worker_id).where(TASK.c.status == Status.PROCESSING).distinct()
    return set(connection.execute(query).scalars())
