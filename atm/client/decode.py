"""From the messages of the wire to the values of `atm.client.results`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from atm.client.results import STATUSES, CancelResult, Server, Statistics, Task, TaskLog, TaskPage, Worker
from atm.rpc import task_service_pb2 as pb


def _time(message: Any, name: str) -> datetime | None:
    return getattr(message, name).ToDatetime(tzinfo=UTC) if message.HasField(name) else None


def task(message: pb.Task) -> Task:
    """One task."""
    return Task(
        task_id=message.task_id,
        task_type=message.task_type,
        status=message.status,
        priority=message.priority,
        payload=dict(message.payload),
        result=dict(message.result),
        worker_id=message.worker_id,
        attempt=message.attempt,
        retry_count=message.retry_count,
        max_retry=message.max_retry,
        timeout_ms=message.timeout_ms,
        error_message=message.error_message,
        error_reason=message.error_reason,
        progress=message.progress,
        progress_message=message.progress_message,
        created_at=_time(message, "created_at"),
        due_at=_time(message, "due_at"),
        started_at=_time(message, "started_at"),
        completed_at=_time(message, "completed_at"),
        cancel_requested_at=_time(message, "cancel_requested_at"),
        cancel_requested_by=message.cancel_requested_by,
    )


def cancel_result(task_id: str, response: pb.CancelTaskResponse) -> CancelResult:
    """The answer to a cancellation of `task_id`."""
    return CancelResult(task_id=task_id, success=response.success, message=response.message)


def logs(response: pb.GetTaskLogsResponse) -> list[TaskLog]:
    """A task's history, oldest first."""
    return [
        TaskLog(
            log_id=row.log_id,
            task_id=row.task_id,
            log_type=row.log_type,
            from_status=row.from_status,
            to_status=row.to_status,
            message=row.message,
            worker_id=row.worker_id,
            attempt=row.attempt,
            created_at=_time(row, "created_at"),
        )
        for row in response.logs
    ]


def page(request: pb.ListTasksRequest, response: pb.ListTasksResponse) -> TaskPage:
    """The page that `request` asked for."""
    return TaskPage(
        tasks=tuple(task(item) for item in response.tasks),
        total=response.total,
        page=request.page,
        page_size=request.page_size or 20,  # what the server takes 0 for
        next_page_token=response.next_page_token,
    )


def workers(response: pb.ListWorkersResponse) -> list[Worker]:
    """Every worker that the server knows."""
    return [
        Worker(
            worker_id=item.worker_id,
            host=item.host,
            pid=item.pid,
            capacity=item.capacity,
            load=item.load,
            task_types=tuple(item.task_types),
            status=item.status,
            started_at=_time(item, "started_at"),
            last_heartbeat_at=_time(item, "last_heartbeat_at"),
            version=item.version,
        )
        for item in response.workers
    ]


def servers(response: pb.ListServersResponse) -> list[Server]:
    """Every server that is there, and which one leads."""
    return [
        Server(
            server_id=item.server_id,
            instance_id=item.instance_id,
            host=item.host,
            pid=item.pid,
            grpc_port=item.grpc_port,
            worker_port=item.worker_port,
            status=item.status,
            leader=item.leader,
            leader_epoch=item.leader_epoch,
            started_at=_time(item, "started_at"),
            last_heartbeat_at=_time(item, "last_heartbeat_at"),
            version=item.version,
        )
        for item in response.servers
    ]


def statistics(response: pb.GetStatisticsResponse) -> Statistics:
    """The counts, in an order of their own: that of a map on the wire is random."""
    by_status = dict(response.tasks_by_status)
    known = {status: by_status.pop(status) for status in STATUSES if status in by_status}
    return Statistics(
        tasks_by_status=known | by_status,
        tasks_by_type=dict(sorted(response.tasks_by_type.items())),
        workers=response.workers,
        capacity=response.capacity,
        load=response.load,
    )
