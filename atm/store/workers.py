"""Statements on `worker`: who is there, and who was last heard of when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import Connection

from atm.models import Worker

WORKER = Worker.__table__  # type: ignore[attr-defined]


def register(connection: Connection, worker: Worker) -> None:
    """Adds a worker that has just started."""
    connection.execute(insert(WORKER), worker.model_dump())


#: What a heartbeat says of a worker.
_SAID = ("load", "status", "last_heartbeat_at", "clock_ahead_ms", "stuck_tasks")


def beat(connection: Connection, worker: Worker) -> bool:
    """Records a sign of life; False when the worker was given up on meanwhile."""
    values = {name: getattr(worker, name) for name in _SAID}
    mine = WORKER.c.worker_id == worker.worker_id
    return connection.execute(update(WORKER).where(mine).values(values)).rowcount == 1


def touch(connection: Connection, worker_id: str, now: datetime) -> None:
    """Records a sign of life and nothing else."""
    mine = WORKER.c.worker_id == worker_id
    connection.execute(update(WORKER).where(mine).values(last_heartbeat_at=now))


def remove(connection: Connection, worker_id: str, unheard_since: datetime | None = None) -> bool:
    """Takes a worker out; with `unheard_since` only if it gave no sign of life since."""
    clauses = [WORKER.c.worker_id == worker_id]
    if unheard_since is not None:
        clauses.append(WORKER.c.last_heartbeat_at < unheard_since)
    return connection.execute(delete(WORKER).where(*clauses)).rowcount == 1


def all_workers(connection: Connection) -> Sequence[Worker]:
    """Every worker, by its id."""
    rows = connection.execute(select(WORKER).order_by(WORKER.c.worker_id)).mappings()
    return [Worker(**row) for row in rows]


def unheard(connection: Connection, since: datetime) -> list[str]:
    """The workers that gave no sign of life since this moment."""
    query = select(WORKER.c.worker_id).where(WORKER.c.last_heartbeat_at < since)
    return list(connection.execute(query).scalars())
