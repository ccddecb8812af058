"""Between messages on the wire and what the service takes and gives, field by field of the messages. Pure.

A field has the same name on both sides; what is named or told otherwise is
said in the function for its message.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from atm.models import Leader, Server, Task, TaskLog, Worker
from atm.rpc import task_service_pb2 as pb
from atm.service.history import LogListing
from atm.service.task_service import Statistics
from atm.service.validation import Listing, NewTask
from atm.states import WorkerStatus

M = TypeVar("M", bound=Message)

_INT32_MAX = 2**31 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Fields(NamedTuple):
    """The names of a message's fields, by how their values travel; but not of those that are messages."""

    plain: tuple[str, ...]
    # What is plain, but can be told apart from what is not set.
    optional: tuple[str, ...]
    maps: tuple[str, ...]
    lists: tuple[str, ...]
    moments: tuple[str, ...]

    @classmethod
    def of(cls, message: type[Message], *but: str) -> _Fields:
        fields = [field for field in message.DESCRIPTOR.fields if field.name not in but]
        return cls(*(tuple(f.name for f in fields if _form(f) == form) for form in cls._fields))


def _form(field: Any) -> str:
    if field.message_type is None:
        return "lists" if field.is_repeated else "optional" if field.has_presence else "plain"
    if field.message_type.GetOptions().map_entry:
        return "maps"
    return "moments" if field.message_type is Timestamp.DESCRIPTOR else "messages"


# Once and for all: these calls come by the thousand.
_CREATE_TASK = _Fields.of(pb.CreateTaskRequest)
_RETRY_POLICY = _Fields.of(pb.RetryPolicy)
_LIST_TASKS = _Fields.of(pb.ListTasksRequest)
_LIST_LOGS = _Fields.of(pb.GetTaskLogsRequest)
_TASK = _Fields.of(pb.Task, "values_omitted")
_TASK_LOG = _Fields.of(pb.TaskLog)
_WORKER = _Fields.of(pb.Worker, "lists_omitted")
_SERVER = _Fields.of(pb.Server)
_STATISTICS = _Fields.of(pb.GetStatisticsResponse, "types_left_out")


# Plain loops, because a comprehension is a call more; and because dict() and
# update(), which copy a map of the wire too, are slow: they are written in Python.
def _read(message: Message, fields: _Fields, prefix: str = "") -> dict[str, Any]:
    """The values of a request by name, `prefix` before each; of the optional ones those that are set."""
    values: dict[str, Any] = {}
    for name in fields.plain:
        values[prefix + name] = getattr(message, name)
    for name in fields.optional:
        if message.HasField(name):
            values[prefix + name] = getattr(message, name)
    for name in fields.maps:
        entries, copied = getattr(message, name), {}
        for key in entries:
            copied[key] = entries[key]
        values[prefix + name] = copied
    return values


def _fill(message: M, fields: _Fields, values: Mapping[str, Any]) -> M:
    """Sets the fields of an answer. What is empty or None is left: an unset field means the same."""
    for name in fields.plain:
        if value := values[name]:
            setattr(message, name, value)
    for name in fields.maps:
        if value := values[name]:
            entries = getattr(message, name)
            for key in value:
                entries[key] = value[key]
    for name in fields.lists:
        getattr(message, name).extend(values[name])
    for name in fields.moments:
        if (moment := values[name]) is not None:
            # In whole numbers: a float has not enough digits for microseconds.
            since, field = moment - _EPOCH, getattr(message, name)
            field.seconds, field.nanos = since.days * 86400 + since.seconds, since.microseconds * 1000
    return message


def new_task(request: pb.CreateTaskRequest) -> NewTask:
    """What a CreateTask asks for; a field that is not set is None or ""."""
    asked = _read(request, _CREATE_TASK)
    # Most requests say nothing of it.
    if request.HasField("retry"):
        asked |= _read(request.retry, _RETRY_POLICY, "retry_")
    return NewTask(**asked)


def listing(request: pb.ListTasksRequest) -> Listing:
    """Which page a ListTasks asks for."""
    return Listing(**_read(request, _LIST_TASKS))


def log_listing(request: pb.GetTaskLogsRequest) -> LogListing:
    """Which rows of which history a GetTaskLogs asks for."""
    return LogListing(**_read(request, _LIST_LOGS))


def task(row: Task, message: pb.Task | None = None) -> pb.Task:
    """A task on the wire; `message`, if given, is filled: the answer that it is part of need not copy it."""
    # Its __dict__: past SQLAlchemy's attributes.
    filled = _fill(pb.Task() if message is None else message, _TASK, row.__dict__)
    if "values_omitted" in row.__dict__:
        filled.values_omitted = row.values_omitted
    return filled


def task_log(row: TaskLog) -> pb.TaskLog:
    """A row of a task's history on the wire."""
    return _fill(pb.TaskLog(), _TASK_LOG, {**row.__dict__, "log_id": str(row.log_id)})


def worker(row: Worker) -> pb.Worker:
    """A worker on the wire."""
    return _fill(pb.Worker(), _WORKER, {**row.__dict__, "stuck_tasks": row.stuck_tasks or ()})


def server(row: Server, leader: Leader) -> pb.Server:
    """A server on the wire."""
    leads = row.instance_id == leader.instance_id
    led = {
        "leader": leads and row.status != WorkerStatus.LOST,
        "leader_epoch": leader.epoch if leads else 0,
        "redis_fault": row.redis_fault or "",
    }
    return _fill(pb.Server(), _SERVER, {**row.__dict__, **led})


def statistics(found: Statistics) -> pb.GetStatisticsResponse:
    """The counts on the wire."""
    counted = {
        "tasks_by_status": found.by_status,
        "tasks_by_type": found.by_type,
        "capacity": total(found.capacity),
        "load": total(found.load),
    }
    return _fill(pb.GetStatisticsResponse(), _STATISTICS, {**found.__dict__, **counted})


def total(count: int) -> int:
    """A count as the contract's int32."""
    return max(-_INT32_MAX, min(count, _INT32_MAX))
