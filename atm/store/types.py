"""Statements on `task_config`: which types there are, and their defaults."""

from __future__ import annotations

import time
from datetime import datetime
from threading import Lock
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from atm.models import TaskConfig
from atm.retrying import MAX_BACKOFF_RATE, MAX_DELAY_MS, MAX_RETRIES, MAX_TIMEOUT_MS, STRATEGIES, Retry
from atm.store.database import Database, DuplicateError

CONFIG = TaskConfig.__table__  # type: ignore[attr-defined]


def all_types(connection: Connection) -> dict[str, TaskConfig]:
    """Every known type and its configuration."""
    rows = connection.execute(select(CONFIG)).mappings()
    return {row["task_type"]: TaskConfig(**{**row, **_within_bounds(row)}) for row in rows}


#: What a policy may be at most, 0 being the least. A row may have come by an import, or by hand.
_MOST = {
    "default_timeout_ms": MAX_TIMEOUT_MS,
    "max_retry": MAX_RETRIES,
    "retry_delay_ms": MAX_DELAY_MS,
    "retry_max_delay_ms": MAX_DELAY_MS,
}


def _within_bounds(row: Any) -> dict[str, Any]:
    """The values of a row that no request could have asked for, as the nearest that one could."""
    odd: dict[str, Any] = {
        name: max(0, min(row[name], most)) for name, most in _MOST.items() if not 0 <= row[name] <= most
    }
    if row["retry_strategy"] not in STRATEGIES:
        odd["retry_strategy"] = Retry.strategy
    if not 1 <= row["retry_backoff_rate"] <= MAX_BACKOFF_RATE:
        odd["retry_backoff_rate"] = min(max(1.0, row["retry_backoff_rate"]), MAX_BACKOFF_RATE)
    return odd


def register(connection: Connection, task_type: str, defaults: dict[str, Any], now: datetime) -> None:
    """Makes a type known, with what its handler says of it.

    Only the columns in `defaults` are written to a row that is there:
    `enabled` and `max_concurrent` belong to the operator.
    """
    mine = CONFIG.c.task_type == task_type
    known = connection.execute(select(CONFIG).where(mine).with_for_update()).mappings().first()
    if known is None:
        row = TaskConfig(task_type=task_type, updated_at=now, **defaults)
        connection.execute(insert(CONFIG), row.model_dump())
    elif any(known[name] != value for name, value in defaults.items()):
        connection.execute(update(CONFIG).where(mine).values(**defaults, updated_at=now))


def announce(database: Database, task_type: str, defaults: dict[str, Any]) -> None:
    """`register`, committed, however many workers do it at the same moment. Raises UnavailableError."""

    def work(connection: Connection) -> None:
        register(connection, task_type, defaults, database.clock.now())

    try:
        database.write(work)
    except DuplicateError:
        # Another worker was first: now the row is there.
        database.write(work)


class TypeCache:
    """The configurations, read again when older than `max_age` seconds.

    A type that is not found is looked for in SQL at once, so a worker that
    has just started is seen; a change to a known type is seen within `max_age`.
    """

    def __init__(self, database: Database, max_age: float = 1.0) -> None:
        self._database = database
        self._max_age = max_age
        self._lock = Lock()
        self._types: dict[str, TaskConfig] = {}
        self._read_at = float("-inf")

    def cached(self, task_type: str) -> TaskConfig | None:
        """The configuration of a type, if it is known without asking SQL."""
        fresh = time.monotonic() - self._read_at < self._max_age
        return self._types.get(task_type) if fresh else None

    def get(self, task_type: str) -> TaskConfig | None:
        """The configuration of a type, or None if there is no such type."""
        return self.cached(task_type) or self._refresh().get(task_type)

    def names(self) -> list[str]:
        """The names of all known types."""
        return sorted(self._types)

    def _refresh(self) -> dict[str, TaskConfig]:
        types = self._database.read(all_types)
        with self._lock:
            self._types, self._read_at = types, time.monotonic()
        return types
