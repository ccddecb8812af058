"""10,000 malformed or random requests: the server goes on, nothing is UNKNOWN or INTERNAL, no row changes."""

from __future__ import annotations

import random
import socket
from collections import Counter
from typing import Any

import grpc
import pytest
from fix_system import System, eventually
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acceptance.test_bad_input import rows
from atm.rpc import task_service_pb2 as pb

#: On each of two databases.
REQUESTS = 5000
IN_FLIGHT = 50
METHODS = {
    "/taskservice.TaskService/CreateTask": pb.CreateTaskRequest,
    "/taskservice.TaskService/GetTask": pb.GetTaskRequest,
    "/taskservice.TaskService/CancelTask": pb.CancelTaskRequest,
    "/taskservice.TaskService/GetTaskLogs": pb.GetTaskLogsRequest,
    "/taskservice.TaskService/ListTasks": pb.ListTasksRequest,
    "/taskservice.TaskService/BatchCreateTasks": pb.BatchCreateTasksRequest,
    "/taskservice.TaskService/WaitTask": pb.WaitTaskRequest,
    "/taskservice.TaskService/ListWorkers": pb.ListWorkersRequest,
    "/taskservice.TaskService/GetStatistics": pb.GetStatisticsRequest,
    "/grpc.health.v1.Health/Check": pb.GetTaskRequest,
    "/taskservice.TaskService/NoSuchCall": pb.GetTaskRequest,
}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
numbers = st.integers(-(2**31), 2**31 - 1)
longs = st.integers(-(2**63), 2**63 - 1)
policies = st.builds(
    pb.RetryPolicy, strategy=texts, delay_ms=longs, backoff_rate=st.floats(), max_delay_ms=longs
)
# Never a type that exists: what is accepted would change rows, rightly.
new_tasks = st.builds(
    pb.CreateTaskRequest,
    task_type=texts.map(lambda text: f"no{text}"),
    priority=numbers,
    payload=st.dictionaries(texts, texts, max_size=4),
    max_retry=numbers,
    timeout_ms=longs,
    retry=policies,
    request_id=texts,
    delay_ms=longs,
)
messages = st.one_of(
    new_tasks,
    st.builds(pb.BatchCreateTasksRequest, tasks=st.lists(new_tasks, max_size=4)),
    st.builds(pb.WaitTaskRequest, task_id=texts, timeout_ms=longs),
    st.builds(pb.GetTaskRequest, task_id=texts),
    st.builds(pb.CancelTaskRequest, task_id=texts, requested_by=texts),
    st.builds(
        pb.ListTasksRequest,
        status=texts,
        priority=numbers,
        page=numbers,
        page_size=numbers,
        task_type=texts,
        page_token=texts,
    ),
).map(lambda message: message.SerializeToString())


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A message with some of its bytes changed, lost or added."""
    data = bytearray(draw(messages))
    rng = random.Random(draw(st.integers(0, 2**32)))
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(data))
        data[at : at + rng.randint(0, 2)] = rng.randbytes(rng.randint(0, 3))
    return bytes(data)


requests = st.tuples(
    st.sampled_from(sorted(METHODS)), st.one_of(messages, mutated(), st.binary(max_size=100))
)


def test_no_request_breaks_anything(system: System) -> None:
    codes: Counter[grpc.StatusCode] = Counter()
    before = rows(system)
    with grpc.insecure_channel(system.address) as channel:

        @settings(
            max_examples=REQUESTS // IN_FLIGHT,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.lists(requests, min_size=IN_FLIGHT, max_size=IN_FLIGHT))
        def send(batch: list[tuple[str, bytes]]) -> None:
            calls: list[Any] = [
                channel.unary_unary(method, None, None).future(data, timeout=30) for method, data in batch
            ]
            for (method, data), call in zip(batch, calls, strict=True):
                code = call.code()
                assert code not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL), (
                    method,
                    data,
                    call.details(),
                )
                codes[code] += 1

        send()
    assert sum(codes.values()) >= REQUESTS
    assert codes[grpc.StatusCode.INVALID_ARGUMENT] > REQUESTS // 10
    assert rows(system) == before
    assert system.client().create_task("echo").status == "PENDING"


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 4096, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 99]
)
def test_garbage_on_the_port_does_not_stop_the_server(system: System, data: bytes) -> None:
    host, _, port = system.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(data)
    task = system.client().create_task("echo")
    eventually(lambda: system.client().get_task(task.task_id).is_final)
