"""What the calls return: frozen values with times in UTC.

Each has `to_dict()`, ready for JSON: times as ISO 8601 with microseconds and
`Z`, None where a time is not set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from atm.states import FINAL, Status
from atm.values import decode_values

#: A task in one of these states never changes again by itself.
FINAL_STATUSES: frozenset[str] = FINAL


def iso(moment: datetime | None) -> str | None:
    """2026-01-31T12:00:00.000000Z, or None."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class _Record:
    """A dataclass that can be written as JSON."""

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, with nothing in them but what JSON knows."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(self)}  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, _Record):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, dict) else value


@dataclass(frozen=True)
class Task(_Record):
    """One task, as it was when the server answered.

    `payload` and `result` are the strings of the wire; `payload_values()` and
    `result_values()` decode those that are JSON. `timeout_ms` is the time of
    one attempt, 0 for no limit. `progress` is what the handler last reported,
    from 0 to 1. `values_omitted`: payload or result are not here, because an
    answer of several tasks would have been too large; `get_task` has them.
    """

    task_id: str
    task_type: str
    status: str
    priority: int = 0
    payload: dict[str, str] = field(default_factory=dict)
    result: dict[str, str] = field(default_factory=dict)
    worker_id: str = ""
    attempt: int = 0
    retry_count: int = 0
    max_retry: int = 0
    timeout_ms: int = 0
    error_message: str = ""
    error_reason: str = ""
    progress: float = 0.0
    progress_message: str = ""
    created_at: datetime | None = None
    due_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    cancel_requested_by: str = ""
    values_omitted: bool = False

    @property
    def is_final(self) -> bool:
        """Whether the task has ended."""
        return self.status in FINAL_STATUSES

    @property
    def succeeded(self) -> bool:
        """Whether the task ended in SUCCESS."""
        return self.status == Status.SUCCESS

    def payload_values(self) -> dict[str, Any]:
        """The payload, with JSON text decoded."""
        return decode_values(self.payload)

    def result_values(self) -> dict[str, Any]:
        """The result, with JSON text decoded."""
        return decode_values(self.result)


@dataclass(frozen=True)
class TaskLog(_Record):
    """One row of a task's history. `attempt` is 0 before the first one."""

    log_id: str
    task_id: str
    log_type: str
    from_status: str = ""
    to_status: str = ""
    message: str = ""
    worker_id: str = ""
    attempt: int = 0
    created_at: datetime | None = None


@dataclass(frozen=True)
class TaskPage(_Record):
    """One page of tasks, newest first. `total` counts the matches on all pages.

    It is 0 on a page that was asked for by a token. `next_page_token` is empty
    on the last page.
    """

    tasks: tuple[Task, ...]
    total: int
    page: int
    page_size: int
    next_page_token: str = ""

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def pages(self) -> int:
        """How many pages of this size there are."""
        return -(-self.total // self.page_size)


@dataclass(frozen=True)
class CancelResult(_Record):
    """Whether the task was cancelled, or told to stop; and the server's words for it."""

    task_id: str
    success: bool
    message: str


@dataclass(frozen=True)
class Worker(_Record):
    """One worker process. `capacity` attempts fit into it; `load` run now.

    `status` is RUNNING, DRAINING, or LOST once its heartbeats stopped.
    `clock_ahead_ms` is how far its machine's clock is ahead of the database's.
    `stuck_tasks` are those whose handlers hold a thread although their attempts
    have ended. `lists_omitted`: these and the types are not here, because the
    answer would have been too large.
    """

    worker_id: str
    host: str
    pid: int
    capacity: int
    load: int
    task_types: tuple[str, ...] = ()
    status: str = ""
    started_at: datetime | None = None
    last_heartbeat_at: datetime | None = None
    version: str = ""
    clock_ahead_ms: int = 0
    stuck_tasks: tuple[str, ...] = ()
    lists_omitted: bool = False


@dataclass(frozen=True)
class Server(_Record):
    """One server process. `status` is RUNNING, DRAINING, or LOST once its heartbeats stopped.

    `leader` tells whether it runs the scheduler for all, `leader_epoch` how
    often the leader has changed until it took the lead, `clock_ahead_ms` how
    far its machine's clock is ahead of the database's, `redis_fault` why Redis
    cannot be used from there ("": it can).
    """

    server_id: str
    instance_id: str
    host: str
    pid: int
    grpc_port: int
    worker_port: int
    status: str = ""
    leader: bool = False
    leader_epoch: int = 0
    started_at: datetime | None = None
    last_heartbeat_at: datetime | None = None
    version: str = ""
    clock_ahead_ms: int = 0
    redis_fault: str = ""


@dataclass(frozen=True)
class Statistics(_Record):
    """Counts of tasks by status (every status is a key) and by type, and the workers' sums.

    `types_left_out` is how many types, with the fewest tasks, are not there:
    their names did not fit into an answer.
    """

    tasks_by_status: dict[str, int]
    tasks_by_type: dict[str, int]
    workers: int
    capacity: int
    load: int
    types_left_out: int = 0

    @property
    def total(self) -> int:
        """How many tasks there are."""
        return sum(self.tasks_by_status.values())
