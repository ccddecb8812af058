"""WaitTask: told at once, through one subscription however many wait, and never left waiting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
import redis
from fix_system import System

from atm.broker.keys import ended_channel
from atm.client import Client
from atm.errors import TaskNotFoundError
from atm.rpc import task_service_pb2 as pb
from atm.rpc.task_service_pb2_grpc import TaskServiceStub

#: Longer than any call here may take: an answer came because something was heard.
LONG_MS = 60_000


def _wait(system: System, task_id: str, timeout_ms: int) -> pb.Task:
    with grpc.insecure_channel(system.address) as channel:
        request = pb.WaitTaskRequest(task_id=task_id, timeout_ms=timeout_ms)
        return TaskServiceStub(channel).WaitTask(request, timeout=50).task


class _Waits:
    """Calls of WaitTask over one connection."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._stub = TaskServiceStub(self._channel)
        self._calls: list[Any] = []

    def begin(self, task_ids: Sequence[str]) -> None:
        """Asks for the ends of these tasks, and returns when the server waits for them."""
        requests = [pb.WaitTaskRequest(task_id=task_id, timeout_ms=LONG_MS) for task_id in task_ids]
        self._calls += [self._stub.WaitTask.future(request, timeout=50) for request in requests]
        # A server begins with the calls of a connection in their order.
        self._stub.GetTask(pb.GetTaskRequest(task_id=task_ids[-1]), timeout=50)
        assert not any(call.done() for call in self._calls)

    def ends(self) -> list[str]:
        """The states that were answered."""
        return [call.result().task.status for call in self._calls]

    def close(self) -> None:
        self._channel.close()


@contextmanager
def _waiting(system: System, *task_ids: str) -> Iterator[_Waits]:
    """While calls wait for these tasks."""
    waits = _Waits(system.address)
    try:
        waits.begin(task_ids)
        yield waits
    finally:
        waits.close()


def test_the_answer_comes_when_the_task_has_ended(system: System, client: Client) -> None:
    task = client.create_task("hold", {"until": "it is waited for"})
    with _waiting(system, task.task_id) as waits:
        system.let_go("it is waited for")
        assert waits.ends() == ["SUCCESS"]
    assert _wait(system, task.task_id, LONG_MS).status == "SUCCESS"


def test_when_the_time_is_up_the_answer_is_the_task_as_it_is(system: System, client: Client) -> None:
    task = client.create_task("echo", delay=600)
    assert _wait(system, task.task_id, 300).status == "PENDING"
    client.cancel_task(task.task_id)


def test_a_cancellation_is_heard_too(system: System, client: Client) -> None:
    task = client.create_task("echo", delay=600)
    with _waiting(system, task.task_id) as waits:
        client.cancel_task(task.task_id)
        assert waits.ends() == ["CANCELLED"]


def test_bad_input_is_told(system: System, client: Client) -> None:
    with pytest.raises(TaskNotFoundError):
        client.wait_for_task("nobody", 1)
    task = client.create_task("echo")
    for wrong in (-1, 60_001):
        with pytest.raises(grpc.RpcError) as caught:
            _wait(system, task.task_id, wrong)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "timeout_ms" in (caught.value.details() or "")


def test_all_who_wait_share_one_subscription(system: System, client: Client) -> None:
    # On one connection, which may have a hundred calls at a time.
    tasks = [client.create_task("echo", delay=600).task_id for _ in range(90)]
    tasks.append(client.create_task("hold", {"until": "all are waited for"}).task_id)
    with redis.Redis.from_url(f"redis://{system.redis_addr}") as direct, _waiting(system, *tasks) as waits:
        channel = ended_channel(system.prefix)
        assert dict(direct.pubsub_numsub(channel))[channel.encode()] == 1
        system.let_go("all are waited for")
        for task_id in tasks[:-1]:
            client.cancel_task(task_id)
        assert waits.ends() == ["CANCELLED"] * 90 + ["SUCCESS"]


def test_a_server_that_stops_lets_nobody_wait(new_system: System) -> None:
    # It would wait for longer for the calls in flight than this one waits for its task.
    server = new_system.start_server(environment={"ATM_SHUTDOWN_GRACE_SECONDS": "600"})
    task = new_system.client().create_task("example_task")
    with _waiting(new_system, task.task_id) as waits:
        assert server.terminate(within=50) == 0
        assert waits.ends() == ["PENDING"]


def test_without_redis_the_end_is_found_out_all_the_same(new_system: System, own_valkey: object) -> None:
    from fix_valkey import Valkey

    assert isinstance(own_valkey, Valkey)
    new_system.environment["REDIS_ADDR"] = own_valkey.address
    new_system.start_server()
    client = new_system.client()
    task = client.create_task("example_task", delay=600)
    own_valkey.stop()
    with _waiting(new_system, task.task_id) as waits:
        client.cancel_task(task.task_id)
        assert waits.ends() == ["CANCELLED"]
