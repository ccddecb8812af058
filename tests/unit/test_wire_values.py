"""What the server writes to the wire is what the client reads from it, whatever fields there are."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.message import Message

from atm.client import decode, results
from atm.models import Leader, Server, Task, TaskLog, Worker
from atm.rpc import task_service_pb2 as pb
from atm.server import convert
from atm.service.validation import NewTask

AT = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)


def row(table: Any, **known: Any) -> Any:
    """A row in which no value is what an unset field means."""
    samples = {
        "int": 7,
        "float": 0.5,
        "datetime": AT,
        "bool": True,
        "dict": {"a": "1", "b": ""},
        "list": ["x"],
    }
    values = {}
    for name, field in table.model_fields.items():
        kind = str(field.annotation)
        values[name] = next((sample for word, sample in samples.items() if word in kind), f"a {name}")
    return table.model_construct(**{**values, **known})


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (results.Task, pb.Task),
        (results.TaskLog, pb.TaskLog),
        (results.Worker, pb.Worker),
        (results.Server, pb.Server),
        (results.Statistics, pb.GetStatisticsResponse),
    ],
)
def test_a_value_of_the_client_has_the_fields_of_its_message(kind: Any, message: type[Message]) -> None:
    assert {field.name for field in fields(kind)} == set(message.DESCRIPTOR.fields_by_name)


def test_each_value_of_a_row_arrives() -> None:
    task, log, worker, server = row(Task), row(TaskLog), row(Worker), row(Server)
    leader = Leader(name="l", epoch=3, instance_id=server.instance_id, acquired_at=AT)
    arrived: list[Any] = [
        decode.task(convert.task(task)),
        *decode.logs(pb.GetTaskLogsResponse(logs=[convert.task_log(log)])),
        *decode.workers(pb.ListWorkersResponse(workers=[convert.worker(worker)])),
        *decode.servers(pb.ListServersResponse(servers=[convert.server(server, leader)])),
    ]
    told_otherwise = {
        "log_id": "7",
        "leader": True,
        "leader_epoch": 3,
        **dict.fromkeys(("task_types", "stuck_tasks"), ("x",)),
    }
    for stored, value in zip((task, log, worker, server), arrived, strict=True):
        for field in fields(value):
            # What an answer leaves out is no part of a row.
            wanted = told_otherwise.get(field.name) or getattr(stored, field.name, False)
            assert getattr(value, field.name) == wanted, field.name


def test_what_is_not_set_arrives_as_nothing() -> None:
    empty = row(Task, result=None, started_at=None, worker_id="", progress=0.0)
    task = decode.task(convert.task(empty))
    assert (task.result, task.started_at, task.worker_id, task.progress) == ({}, None, "", 0.0)


def test_a_request_is_read_with_what_it_says_and_nothing_else() -> None:
    assert convert.new_task(pb.CreateTaskRequest(task_type="a")) == NewTask("a")
    request = pb.CreateTaskRequest(
        task_type="a", payload={"k": "v"}, max_retry=0, retry=pb.RetryPolicy(strategy="FIXED", delay_ms=0)
    )
    wanted = NewTask("a", payload={"k": "v"}, max_retry=0, retry_strategy="FIXED", retry_delay_ms=0)
    assert convert.new_task(request) == wanted
