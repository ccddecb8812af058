"""Bad input gets a clear answer that names the field, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from fix_system import System
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from sqlalchemy import func, select

from atm.models import Task, TaskLog
from atm.rpc import task_service_pb2 as pb
from atm.rpc import task_service_pb2_grpc


@pytest.fixture
def stub(system: System) -> Iterator[Any]:
    with grpc.insecure_channel(system.address) as channel:
        yield task_service_pb2_grpc.TaskServiceStub(channel)


def rows(system: System) -> tuple[int, int]:
    """How many tasks and log rows there are."""
    return system.database.read(
        lambda c: (
            c.execute(select(func.count()).select_from(Task)).scalar_one(),
            c.execute(select(func.count()).select_from(TaskLog)).scalar_one(),
        )
    )


def details(error: grpc.RpcError) -> tuple[error_details_pb2.ErrorInfo, list[str]]:
    """The reason, and the fields that are named."""
    info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    status: Any = rpc_status.from_call(error)
    for packed in status.details:
        packed.Unpack(info)
        packed.Unpack(request)
    return info, [violation.field for violation in request.field_violations]


CREATE, LIST = pb.CreateTaskRequest, pb.ListTasksRequest
BAD: list[tuple[str, Any, str]] = [
    ("CreateTask", CREATE(), "task_type"),
    ("CreateTask", CREATE(task_type="x" * 129), "task_type"),
    ("CreateTask", CREATE(task_type="echo", priority=2), "priority"),
    ("CreateTask", CREATE(task_type="echo", priority=-1), "priority"),
    ("CreateTask", CREATE(task_type="echo", payload={"k": "v" * 2**20}), "payload"),
    ("CreateTask", CREATE(task_type="echo", payload={str(n): "" for n in range(257)}), "payload"),
    ("CreateTask", CREATE(task_type="echo", payload={"": "x"}), "payload"),
    ("CreateTask", CREATE(task_type="echo", max_retry=-1), "max_retry"),
    ("CreateTask", CREATE(task_type="echo", timeout_ms=-1), "timeout_ms"),
    ("CreateTask", CREATE(task_type="echo", retry={"strategy": "NEVER"}), "retry.strategy"),
    ("CreateTask", CREATE(task_type="echo", retry={"backoff_rate": float("nan")}), "retry.backoff_rate"),
    ("ListTasks", LIST(status="DONE"), "status"),
    ("ListTasks", LIST(priority=7), "priority"),
    ("ListTasks", LIST(page=-1), "page"),
    ("ListTasks", LIST(page_size=-1), "page_size"),
    ("ListTasks", LIST(page_size=501), "page_size"),
    ("GetTask", pb.GetTaskRequest(), "task_id"),
    ("CancelTask", pb.CancelTaskRequest(task_id="1", requested_by="x" * 256), "requested_by"),
]


@pytest.mark.parametrize(
    ("method", "request_", "field"), BAD, ids=[f"{m}-{f}-{n}" for n, (m, _, f) in enumerate(BAD)]
)
def test_the_field_is_named_and_nothing_changes(
    system: System, stub: Any, method: str, request_: Any, field: str
) -> None:
    before = rows(system)
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stub, method)(request_, timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    info, fields = details(caught.value)
    assert (info.domain, info.reason) == ("atm", "INVALID_REQUEST")
    assert fields == [field]
    assert rows(system) == before


@pytest.mark.parametrize("task_id", ["nobody", "../../etc", "x" * 5000, "'; DROP TABLE task; --", "é"])
def test_an_unknown_id_is_not_found(stub: Any, task_id: str) -> None:
    requests = {
        "GetTask": pb.GetTaskRequest,
        "CancelTask": pb.CancelTaskRequest,
        "GetTaskLogs": pb.GetTaskLogsRequest,
    }
    for method, kind in requests.items():
        with pytest.raises(grpc.RpcError) as caught:
            getattr(stub, method)(kind(task_id=task_id), timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert details(caught.value)[0].reason == "TASK_NOT_FOUND"


def test_an_unknown_type_is_refused_with_those_that_look_alike(system: System, stub: Any) -> None:
    before = rows(system)
    with pytest.raises(grpc.RpcError) as caught:
        stub.CreateTask(CREATE(task_type="exampel_task"), timeout=10)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    info, _ = details(caught.value)
    assert info.reason == "UNKNOWN_TASK_TYPE"
    assert "example_task" in info.metadata["suggestions"]
    assert "example_task" in caught.value.details()
    assert rows(system) == before


def test_the_same_request_gives_the_same_task_and_another_is_refused(stub: Any) -> None:
    request = CREATE(task_type="echo", payload={"a": "1"}, request_id="req-1")
    first, second = stub.CreateTask(request).task, stub.CreateTask(request).task
    assert first.task_id == second.task_id
    request.payload["a"] = "2"
    with pytest.raises(grpc.RpcError) as caught:
        stub.CreateTask(request)
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert details(caught.value)[0].metadata["task_id"] == first.task_id
