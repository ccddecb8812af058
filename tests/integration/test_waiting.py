"""WaitTask: told at once, through one subscription however many wait, and never left waiting."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import redis
from fix_system import System

from atm.client import Client
from atm.errors import TaskNotFoundError
from atm.rpc import task_service_pb2 as pb
from atm.rpc.task_service_pb2_grpc import TaskServiceStub


def _wait(system: System, task_id: str, timeout_ms: int, deadline: float = 20) -> pb.Task:
    with grpc.insecure_channel(system.address) as channel:
        request = pb.WaitTaskRequest(task_id=task_id, timeout_ms=timeout_ms)
        return TaskServiceStub(channel).WaitTask(request, timeout=deadline).task


def test_the_answer_comes_when_the_task_has_ended(system: System, client: Client) -> None:
    task = client.create_task("slow", {"seconds": "0.7"})
    began = time.monotonic()
    done = _wait(system, task.task_id, 15_000)
    assert done.status == "SUCCESS"
    assert time.monotonic() - began < 5
    again = time.monotonic()
    assert _wait(system, task.task_id, 15_000).status == "SUCCESS"
    assert time.monotonic() - again < 1


def test_when_the_time_is_up_the_answer_is_the_task_as_it_is(system: System, client: Client) -> None:
    task = client.create_task("echo", delay=60)
    began = time.monotonic()
    assert _wait(system, task.task_id, 300).status == "PENDING"
    assert 0.25 < time.monotonic() - began < 5
    client.cancel_task(task.task_id)


def test_a_cancellation_is_heard_too(system: System, client: Client) -> None:
    task = client.create_task("echo", delay=60)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_wait, system, task.task_id, 15_000)
        time.sleep(0.2)
        client.cancel_task(task.task_id)
        assert waiting.result(5).status == "CANCELLED"


def test_bad_input_is_told(system: System, client: Client) -> None:
    with pytest.raises(TaskNotFoundError):
        client.wait_for_task("nobody", 1)
    task = client.create_task("echo")
    for wrong in (-1, 60_001):
        with pytest.raises(grpc.RpcError) as caught:
            _wait(system, task.task_id, wrong)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "timeout_ms" in caught.value.details()


def test_a_hundred_who_wait_share_one_subscription(system: System, client: Client) -> None:
    tasks = [client.create_task("echo", delay=1.5) for _ in range(100)]
    with redis.Redis.from_url(f"redis://{system.redis_addr}") as direct, ThreadPoolExecutor(100) as pool:
        waiting = [pool.submit(client.wait_for_task, task.task_id, 20) for task in tasks]
        time.sleep(0.7)
        channel = f"{system.prefix}:ended"
        assert dict(direct.pubsub_numsub(channel))[channel.encode()] == 1
        assert {future.result(20).status for future in waiting} == {"SUCCESS"}


def test_a_server_that_stops_lets_nobody_wait(new_system: System) -> None:
    server = new_system.start_server()
    task = new_system.client().create_task("example_task")
    answers: list[str] = []
    call = threading.Thread(target=lambda: answers.append(_wait(new_system, task.task_id, 60_000).status))
    call.start()
    time.sleep(0.5)
    began = time.monotonic()
    assert server.terminate() == 0
    assert time.monotonic() - began < 6
    call.join(5)
    assert answers == ["PENDING"]


def test_without_redis_the_end_is_found_out_all_the_same(new_system: System, own_valkey: object) -> None:
    from fix_valkey import Valkey

    assert isinstance(own_valkey, Valkey)
    new_system.environment["REDIS_ADDR"] = own_valkey.address
    new_system.start_server()
    client = new_system.client()
    task = client.create_task("example_task", delay=60)
    own_valkey.stop()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_wait, new_system, task.task_id, 30_000, 40)
        time.sleep(0.3)
        client.cancel_task(task.task_id)
        assert waiting.result(15).status == "CANCELLED"
