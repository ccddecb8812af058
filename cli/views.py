"""How tasks, logs, workers and counts look: columns, details, colours."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from atm.states import Status, WorkerStatus
from atm_cli.output import View
from atm_cli.tables import Column, Field

if TYPE_CHECKING:
    from atm.client import CancelResult, Server, Statistics, Task, TaskLog, Worker

_STATUS_STYLES: dict[str, str] = {
    Status.PENDING: "yellow",
    Status.PROCESSING: "cyan",
    Status.SUCCESS: "green",
    Status.FAILED: "red",
    Status.TIMEOUT: "magenta",
    Status.CANCELLED: "bright_black",
    WorkerStatus.RUNNING: "green",
    WorkerStatus.DRAINING: "yellow",
    WorkerStatus.LOST: "red",
}
_PRIORITIES = {0: "normal", 1: "high"}


def status_style(status: str) -> str:
    """The colour of a state, of a task or of a worker."""
    return _STATUS_STYLES.get(status, "")


def moment(value: datetime | None) -> str:
    """A time in UTC, to the second; empty if it is not set."""
    return "" if value is None else value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(start: datetime | None, end: datetime | None) -> str:
    """The seconds between two times; empty if either is not set."""
    return f"{(end - start).total_seconds():.2f}s" if start and end else ""


def _ahead(milliseconds: int) -> str:
    """How far a clock is ahead of the database's, where that is more than a tenth of a second."""
    return f"{milliseconds / 1000:+.1f} s" if abs(milliseconds) >= 100 else "agrees"


def _task_details(task: Task, wide: bool) -> list[Field]:
    fields = [
        Field("Task", task.task_id),
        Field("Type", task.task_type),
        Field("Status", task.status, status_style(task.status)),
        Field("Reason", task.error_reason),
        Field("Error", task.error_message, "red"),
        Field("Priority", _PRIORITIES.get(task.priority, str(task.priority))),
        Field("Progress", _progress(task)),
        Field("Retries", f"{task.retry_count} of {task.max_retry}"),
        Field("Created", moment(task.created_at)),
        Field("Started", moment(task.started_at)),
        Field("Completed", moment(task.completed_at)),
        Field("Took", duration(task.started_at, task.completed_at)),
        Field("Cancel asked", _cancel_request(task)),
        Field("Payload", _values(task.payload)),
        Field("Result", _values(task.result)),
    ]
    if wide:
        fields += [
            Field("Worker", task.worker_id),
            Field("Attempt", str(task.attempt)),
            Field("Time limit", f"{task.timeout_ms / 1000:g}s" if task.timeout_ms else "none"),
            Field("Due", moment(task.due_at)),
        ]
    return fields


def _progress(task: Task) -> str:
    if not task.progress and not task.progress_message:
        return ""
    return f"{task.progress:.0%} {task.progress_message}".rstrip()


def _cancel_request(task: Task) -> str:
    if task.cancel_requested_at is None:
        return ""
    return f"{moment(task.cancel_requested_at)} by {task.cancel_requested_by or 'unknown'}"


def _values(values: dict[str, str]) -> str:
    return "\n".join(f"{key} = {value}" for key, value in sorted(values.items()))


TASKS: View[Task] = View(
    name=lambda task: task.task_id,
    columns=(
        Column("ID", lambda task: task.task_id),
        Column("TYPE", lambda task: task.task_type, free=True),
        Column("STATUS", lambda task: task.status, lambda task: status_style(task.status)),
        Column("PRIORITY", lambda task: _PRIORITIES.get(task.priority, str(task.priority))),
        Column("RETRIES", lambda task: f"{task.retry_count}/{task.max_retry}"),
        Column("CREATED", lambda task: moment(task.created_at)),
        Column("TOOK", lambda task: duration(task.started_at, task.completed_at)),
        Column("STARTED", lambda task: moment(task.started_at), wide=True),
        Column("COMPLETED", lambda task: moment(task.completed_at), wide=True),
        Column("WORKER", lambda task: task.worker_id, wide=True, free=True),
        Column("REASON", lambda task: task.error_reason, wide=True),
        Column("ERROR", lambda task: task.error_message, wide=True, free=True),
    ),
    details=_task_details,
)

LOGS: View[TaskLog] = View(
    name=lambda row: row.log_id,
    columns=(
        Column("ID", lambda row: row.log_id, wide=True),
        Column("TIME", lambda row: moment(row.created_at)),
        Column("TYPE", lambda row: row.log_type),
        Column("FROM", lambda row: row.from_status, lambda row: status_style(row.from_status)),
        Column("TO", lambda row: row.to_status, lambda row: status_style(row.to_status)),
        Column("ATTEMPT", lambda row: str(row.attempt or "")),
        Column("WORKER", lambda row: row.worker_id, wide=True, free=True),
        Column("MESSAGE", lambda row: row.message, free=True, wraps=True),
    ),
)


def _load(worker: Worker) -> str:
    stuck = f", {len(worker.stuck_tasks)} stuck" if worker.stuck_tasks else ""
    return f"{worker.load}/{worker.capacity}{stuck}"


WORKERS: View[Worker] = View(
    name=lambda worker: worker.worker_id,
    columns=(
        Column("ID", lambda worker: worker.worker_id, free=True),
        Column("STATUS", lambda worker: worker.status, lambda worker: status_style(worker.status)),
        Column("HOST", lambda worker: worker.host, free=True),
        Column("PID", lambda worker: str(worker.pid)),
        Column("LOAD", _load, lambda worker: "red" if worker.stuck_tasks else ""),
        Column("HEARTBEAT", lambda worker: moment(worker.last_heartbeat_at)),
        Column("STARTED", lambda worker: moment(worker.started_at), wide=True),
        Column("CLOCK", lambda worker: _ahead(worker.clock_ahead_ms), wide=True),
        Column("VERSION", lambda worker: worker.version, wide=True),
        Column("STUCK", lambda worker: ",".join(worker.stuck_tasks), wide=True, free=True),
        Column("TYPES", lambda worker: ",".join(worker.task_types), wide=True, free=True),
    ),
)


def _redis_style(server: Server) -> str:
    return "red" if server.redis_fault else ""


SERVERS: View[Server] = View(
    name=lambda server: server.server_id,
    columns=(
        Column("ID", lambda server: server.server_id, free=True),
        Column("STATUS", lambda server: server.status, lambda server: status_style(server.status)),
        Column("LEADS", lambda server: f"yes, epoch {server.leader_epoch}" if server.leader else ""),
        Column("HOST", lambda server: server.host, free=True),
        Column("PID", lambda server: str(server.pid)),
        Column("PORTS", lambda server: f"{server.grpc_port}, {server.worker_port}"),
        Column("HEARTBEAT", lambda server: moment(server.last_heartbeat_at)),
        Column("REDIS", lambda server: server.redis_fault or "ok", _redis_style, free=True),
        Column("STARTED", lambda server: moment(server.started_at), wide=True),
        Column("CLOCK", lambda server: _ahead(server.clock_ahead_ms), wide=True),
        Column("VERSION", lambda server: server.version, wide=True),
        Column("INSTANCE", lambda server: server.instance_id, wide=True, free=True),
    ),
)

CANCELS: View[CancelResult] = View(
    name=lambda result: result.task_id,
    columns=(
        Column("ID", lambda result: result.task_id),
        Column(
            "OK", lambda result: "yes" if result.success else "no", lambda r: "green" if r.success else "red"
        ),
        Column("MESSAGE", lambda result: result.message, free=True, wraps=True),
    ),
)


@dataclass(frozen=True)
class Count:
    """One line of the statistics."""

    name: str
    value: int
    style: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "value": self.value}


def counts(statistics: Statistics) -> list[Count]:
    """The statistics as lines: states, types, workers."""
    return [
        *(Count(f"tasks.{name}", n, status_style(name)) for name, n in statistics.tasks_by_status.items()),
        *(Count(f"type.{name}", n) for name, n in statistics.tasks_by_type.items()),
        Count("workers", statistics.workers),
        Count("capacity", statistics.capacity),
        Count("load", statistics.load),
    ]


COUNTS: View[Count] = View(
    name=lambda count: count.name,
    columns=(
        Column("NAME", lambda count: count.name, lambda count: count.style),
        Column("VALUE", lambda count: json.dumps(count.value)),
    ),
)
