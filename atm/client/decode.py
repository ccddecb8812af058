"""From the messages of the wire to the values of `atm.client.results`.

A value's fields say what is read: each has the name that it has on the wire,
and its type tells how it travels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar, get_origin, get_type_hints

from google.protobuf.message import Message

from atm.client.results import CancelResult, Server, Statistics, Task, TaskLog, TaskPage, Worker
from atm.rpc import task_service_pb2 as pb
from atm.states import Status

R = TypeVar("R")


def _moment(message: Message, name: str) -> datetime | None:
    return getattr(message, name).ToDatetime(tzinfo=UTC) if message.HasField(name) else None


def _mapping(message: Message, name: str) -> dict[str, Any]:
    entries = getattr(message, name)
    return {key: entries[key] for key in entries}


def _several(message: Message, name: str) -> tuple[Any, ...]:
    return tuple(getattr(message, name))


def _reader(hint: Any) -> Callable[[Message, str], Any]:
    if hint == datetime | None:
        return _moment
    return {dict: _mapping, tuple: _several}.get(get_origin(hint), getattr)


@cache
def _readers(kind: Any) -> dict[str, Callable[[Message, str], Any]]:
    """How each field of a value is read from a message."""
    hints = get_type_hints(kind)
    return {field.name: _reader(hints[field.name]) for field in fields(kind)}


def _value(kind: Callable[..., R], message: Message, **given: Any) -> R:
    """The value that `message` carries; the fields in `given` are not looked for in it."""
    for name, read in _readers(kind).items():
        if name not in given:
            given[name] = read(message, name)
    return kind(**given)


def task(message: pb.Task) -> Task:
    """One task."""
    return _value(Task, message)


def cancel_result(task_id: str, response: pb.CancelTaskResponse) -> CancelResult:
    """The answer to a cancellation of `task_id`."""
    return _value(CancelResult, response, task_id=task_id)


def logs(response: pb.GetTaskLogsResponse) -> list[TaskLog]:
    """A task's history, oldest first."""
    return [_value(TaskLog, row) for row in response.logs]


def page(request: pb.ListTasksRequest, response: pb.ListTasksResponse) -> TaskPage:
    """The page that `request` asked for."""
    return _value(
        TaskPage,
        response,
        tasks=tuple(task(item) for item in response.tasks),
        page=request.page,
        page_size=request.page_size or 20,  # what the server takes 0 for
    )


def workers(response: pb.ListWorkersResponse) -> list[Worker]:
    """Every worker that the server knows."""
    return [_value(Worker, item) for item in response.workers]


def servers(response: pb.ListServersResponse) -> list[Server]:
    """Every server that is there, and which one leads."""
    return [_value(Server, item) for item in response.servers]


def statistics(response: pb.GetStatisticsResponse) -> Statistics:
    """The counts, in an order of their own: that of a map on the wire is random."""
    by_status = dict(response.tasks_by_status)
    known = {status.value: by_status.pop(status) for status in Status if status in by_status}
    return _value(
        Statistics,
        response,
        tasks_by_status=known | by_status,
        tasks_by_type=dict(sorted(response.tasks_by_type.items())),
    )
