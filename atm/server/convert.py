"""Between messages on the wire and what the service takes and gives. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from atm.models import Leader, Server, Task, TaskLog, Worker
from atm.rpc import task_service_pb2 as pb
from atm.service.tasks import Statistics
from atm.service.validation import Listing, NewTask
from atm.states import WorkerStatus

if TYPE_CHECKING:
    from google.protobuf.message import Message

_INT32_MAX = 2**31 - 1
_NO_RETRY = pb.CreateTaskRequest().retry
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _set(message: Message, name: str) -> bool:
    return message.HasField(name)


def new_task(request: pb.CreateTaskRequest) -> NewTask:
    """What a CreateTask asks for; a field that is not set is None or ""."""
    # Most requests say nothing of these.
    retry = request.retry if _set(request, "retry") else _NO_RETRY
    return NewTask(
        task_type=request.task_type,
        priority=request.priority,
        payload=dict(request.payload),
        max_retry=request.max_retry if _set(request, "max_retry") else None,
        timeout_ms=request.timeout_ms if _set(request, "timeout_ms") else None,
        retry_strategy=retry.strategy,
        retry_delay_ms=retry.delay_ms if _set(retry, "delay_ms") else None,
        retry_backoff_rate=retry.backoff_rate if _set(retry, "backoff_rate") else None,
        retry_max_delay_ms=retry.max_delay_ms if _set(retry, "max_delay_ms") else None,
        delay_ms=request.delay_ms,
        request_id=request.request_id,
    )


def listing(request: pb.ListTasksRequest) -> Listing:
    """Which page a ListTasks asks for."""
    return Listing(
        status=request.status,
        priority=request.priority,
        task_type=request.task_type,
        page=request.page,
        page_size=request.page_size,
        page_token=request.page_token,
    )


def timestamp(moment: datetime | None) -> Timestamp | None:
    """A moment on the wire; None stays unset."""
    if moment is None:
        return None
    seconds, nanos = _parts(moment)
    return Timestamp(seconds=seconds, nanos=nanos)


def _parts(moment: datetime) -> tuple[int, int]:
    # In whole numbers: a float has not enough digits for microseconds.
    since = moment - _EPOCH
    return since.days * 86400 + since.seconds, since.microseconds * 1000


#: Fields of a task that travel as they are, its maps, and its moments.
_PLAIN = (
    *("task_id", "task_type", "status", "priority", "worker_id", "retry_count", "max_retry"),
    *("error_message", "error_reason", "attempt", "timeout_ms", "cancel_requested_by"),
    *("progress", "progress_message"),
)
_MAPS = ("payload", "result")
_MOMENTS = ("created_at", "due_at", "started_at", "completed_at", "cancel_requested_at")


def task(row: Task, message: pb.Task | None = None) -> pb.Task:
    """A task on the wire; `message`, if given, is filled: the answer that it is part of need not copy it."""
    message = pb.Task() if message is None else message
    # Past SQLAlchemy's attributes, and without what is unset.
    values = row.__dict__
    for name in _PLAIN:
        if value := values[name]:
            setattr(message, name, value)
    for name in _MAPS:
        if value := values[name]:
            getattr(message, name).update(value)
    for name in _MOMENTS:
        if (moment := values[name]) is not None:
            field = getattr(message, name)
            field.seconds, field.nanos = _parts(moment)
    return message


def task_log(row: TaskLog) -> pb.TaskLog:
    """A row of a task's history on the wire."""
    return pb.TaskLog(
        log_id=str(row.log_id),
        task_id=row.task_id,
        log_type=row.log_type,
        from_status=row.from_status,
        to_status=row.to_status,
        message=row.message,
        worker_id=row.worker_id,
        created_at=timestamp(row.created_at),
        attempt=row.attempt,
    )


def worker(row: Worker) -> pb.Worker:
    """A worker on the wire."""
    return pb.Worker(
        worker_id=row.worker_id,
        host=row.host,
        pid=row.pid,
        capacity=row.capacity,
        load=row.load,
        task_types=row.task_types,
        status=row.status,
        started_at=timestamp(row.started_at),
        last_heartbeat_at=timestamp(row.last_heartbeat_at),
        version=row.version,
    )


def server(row: Server, leader: Leader) -> pb.Server:
    """A server on the wire."""
    leads = row.instance_id == leader.instance_id
    return pb.Server(
        server_id=row.server_id,
        instance_id=row.instance_id,
        host=row.host,
        pid=row.pid,
        grpc_port=row.grpc_port,
        worker_port=row.worker_port,
        status=row.status,
        leader=leads and row.status != WorkerStatus.LOST,
        leader_epoch=leader.epoch if leads else 0,
        started_at=timestamp(row.started_at),
        last_heartbeat_at=timestamp(row.last_heartbeat_at),
        version=row.version,
    )


def statistics(found: Statistics) -> pb.GetStatisticsResponse:
    """The counts on the wire."""
    return pb.GetStatisticsResponse(
        tasks_by_status=found.by_status,
        tasks_by_type=found.by_type,
        workers=found.workers,
        capacity=found.capacity,
        load=found.load,
    )


def total(count: int) -> int:
    """A count as the contract's int32."""
    return min(count, _INT32_MAX)
