"""Whoever is one too many is told when to come back, and locks nobody else out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
import psutil
import pytest
from fix_system import System, health
from grpc_health.v1 import health_pb2
from raw_http2 import RawConnection

from atm.client import AsyncClient
from atm.client.errors import translate
from atm.errors import ExhaustedError
from atm.rpc import task_service_pb2 as pb
from atm.rpc.task_service_pb2_grpc import TaskServiceStub

SERVING = health_pb2.HealthCheckResponse.SERVING
LONG_MS = 60_000
#: Each channel has a connection of its own, as each client in a process of its own would.
APART = [("grpc.use_local_subchannel_pool", 1)]
MIB = 1 << 20


@contextmanager
def connection(address: str) -> Iterator[TaskServiceStub]:
    """A connection that nobody else uses."""
    with grpc.insecure_channel(address, options=APART) as channel:
        yield TaskServiceStub(channel)


def wait(stub: TaskServiceStub, task_id: str) -> Any:
    """A call that waits for a task."""
    return stub.WaitTask.future(pb.WaitTaskRequest(task_id=task_id, timeout_ms=LONG_MS), timeout=100)


def test_those_who_wait_are_limited_and_lock_nobody_out(lone_system: System) -> None:
    lone_system.start_server(environment={"ATM_MAX_WAITS": "20"})
    client = lone_system.client()
    task_id = client.create_task("example_task", delay=600).task_id
    with connection(lone_system.address) as stub, connection(lone_system.address) as other:
        waits = [wait(stub, task_id) for _ in range(20)]
        stub.GetTask(pb.GetTaskRequest(task_id=task_id), timeout=50)
        refused = wait(other, task_id).exception()
        error = translate(refused)
        assert isinstance(error, ExhaustedError)
        assert (error.reason, error.metadata, error.retry_after) == (
            "TOO_BUSY",
            {"limit": "ATM_MAX_WAITS"},
            1.0,
        )
        # Everything else goes on, also for who waits, and health is told.
        assert health(lone_system.address, "") == SERVING
        assert client.create_task("example_task", delay=600)
        assert not any(call.done() for call in waits)
        # A client of ATM's gets its answer all the same: it looks.
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(client.wait_for_task, task_id, 50)
            client.cancel_task(task_id)
            assert waiting.result().status == "CANCELLED"
        assert {call.result().task.status for call in waits} == {"CANCELLED"}
        assert wait(other, task_id).result().task.status == "CANCELLED"


def test_who_goes_away_waits_no_longer(lone_system: System) -> None:
    lone_system.start_server(environment={"ATM_MAX_WAITS": "1"})
    task_id = lone_system.client().create_task("example_task", delay=600).task_id
    with connection(lone_system.address) as stub:
        wait(stub, task_id)
        stub.GetTask(pb.GetTaskRequest(task_id=task_id), timeout=50)
    with connection(lone_system.address) as stub:
        request = pb.WaitTaskRequest(task_id=task_id, timeout_ms=1)

        def failure() -> Any:
            return stub.WaitTask.future(request, timeout=50).exception()

        while (refused := failure()) is not None:
            assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def _burst(address: str, connections: int, each: int, request: pb.CreateTaskRequest) -> Counter[str]:
    """How many of so many creations at once had which end: OK, a reason of ATM's, or gRPC's code."""

    async def create(stub: Any) -> str:
        try:
            await stub.CreateTask(request, timeout=100)
        except grpc.aio.AioRpcError as error:
            failed = translate(error)
            return failed.reason if failed.retry_after else error.code().name
        return "OK"

    channels = [grpc.aio.insecure_channel(address, options=APART) for _ in range(connections)]
    try:
        stubs = [TaskServiceStub(channel) for channel in channels]
        # All connected, so that they come at once.
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        ends = await asyncio.gather(*(create(stub) for stub in stubs for _ in range(each)))
    finally:
        for channel in channels:
            await channel.close()
    return Counter(ends)


def _tasks(system: System) -> int:
    return system.client().get_statistics().total


def test_of_a_burst_each_is_accepted_or_told_when_to_come_back(lone_system: System) -> None:
    lone_system.start_server(environment={"ATM_MAX_CALLS_IN_FLIGHT": "50"})
    request = pb.CreateTaskRequest(task_type="example_task", delay_ms=600_000)
    with ThreadPoolExecutor(1) as threads:
        burst = threads.submit(lambda: asyncio.run(_burst(lone_system.address, 30, 100, request)))
        while not burst.done():
            assert health(lone_system.address, "") == SERVING
        ends = burst.result()
    assert set(ends) == {"OK", "TOO_BUSY"}
    assert ends["OK"] + ends["TOO_BUSY"] == 3000
    assert _tasks(lone_system) == ends["OK"]


def test_clients_of_atm_get_through_a_burst(lone_system: System) -> None:
    lone_system.start_server(environment={"ATM_MAX_CALLS_IN_FLIGHT": "50"})

    async def create() -> None:
        async with AsyncClient(lone_system.address) as client, AsyncClient(lone_system.address) as other:
            calls = [
                each.create_task("example_task", delay=600, deadline=100)
                for _ in range(100)
                for each in (client, other)
            ]
            await asyncio.gather(*calls)

    asyncio.run(create())
    assert _tasks(lone_system) == 200


def test_large_requests_are_bounded_by_their_bytes_and_nothing_is_held_for_good(lone_system: System) -> None:
    server = lone_system.start_server(environment={"ATM_MAX_CALL_MEMORY_MB": "32"})
    large = pb.CreateTaskRequest(
        task_type="example_task", payload={"large": "x" * (MIB - 100)}, delay_ms=600_000
    )
    before = psutil.Process(server.pid).memory_info().rss
    ends = asyncio.run(_burst(lone_system.address, 3, 80, large))
    assert set(ends) == {"OK", "TOO_BUSY"}
    assert _tasks(lone_system) == ends["OK"]
    assert health(lone_system.address, "") == SERVING
    grown = psutil.Process(server.pid).memory_info().rss - before
    assert grown < 1000 * MIB, f"{grown >> 20} MiB more"
    # What those held that were refused, or have ended, is free again.
    for _ in range(10):
        assert asyncio.run(_burst(lone_system.address, 1, 5, large)) == {"OK": 5}


def test_many_waits_of_one_client_do_not_hold_up_its_other_calls(lone_system: System) -> None:
    lone_system.start_server()

    async def wait_for_many() -> None:
        async with AsyncClient(lone_system.address) as client:
            task = await client.create_task("example_task", delay=600)
            waits = [asyncio.create_task(client.wait_for_task(task.task_id, 100)) for _ in range(250)]
            while (await client.get_statistics()).total != 1 or sum(_waits(client)) < 250:
                await asyncio.sleep(0.01)
            assert max(_waits(client)) < 100
            await client.cancel_task(task.task_id)
            assert {(await each).status for each in waits} == {"CANCELLED"}

    asyncio.run(wait_for_many())


def _waits(client: AsyncClient) -> list[int]:
    """How many waits are on each of its connections."""
    return [line.waits for line in client._connection._lines._lines]


@pytest.mark.parametrize("setting", ["ATM_MAX_CONNECTION_AGE_SECONDS", "ATM_MAX_CONNECTION_IDLE_SECONDS"])
def test_a_connection_that_is_too_old_or_idle_is_closed(lone_system: System, setting: str) -> None:
    lone_system.start_server(environment={setting: "0.5"})
    with RawConnection(lone_system.address) as raw:
        assert raw.call(b"/grpc.health.v1.Health/Check")
        raw.wait_until_closed()


def test_calls_outlive_the_age_of_their_connection(lone_system: System) -> None:
    lone_system.start_server(environment={"ATM_MAX_CONNECTION_AGE_SECONDS": "0.3"})
    client = lone_system.client()
    task_id = client.create_task("example_task", delay=600).task_id
    with connection(lone_system.address) as stub:
        # Ten times as old.
        request = pb.WaitTaskRequest(task_id=task_id, timeout_ms=3000)
        waiting = stub.WaitTask.future(request, timeout=50)
        while not waiting.done():
            client.get_task(task_id)
        assert waiting.result().task.status == "PENDING"


def test_a_connection_that_begins_and_resets_calls_without_end_holds_nobody_up(lone_system: System) -> None:
    lone_system.start_server()
    client = lone_system.client()
    with ExitStack() as stack, ThreadPoolExecutor(1) as threads:
        # Ended first, so that the thread ends.
        raw = stack.enter_context(RawConnection(lone_system.address))

        def flood() -> int:
            sent = 0
            while sent < 20_000 and raw.begin_and_reset(b"/taskservice.TaskService/GetStatistics", 100):
                sent += 100
            return sent

        flooding = threads.submit(flood)
        made = 0
        while not flooding.done() or made < 50:
            client.create_task("example_task", delay=600)
            made += 1
        assert flooding.result()
    assert _tasks(lone_system) == made


def test_as_many_calls_at_a_time_as_a_connection_may_have_are_all_served(lone_system: System) -> None:
    # For a while gRPC counts those that have ended, and would refuse others for that.
    lone_system.start_server()
    task_id = lone_system.client().create_task("example_task", delay=600).task_id

    async def ask() -> None:
        # No retries: each refusal would be seen.
        options = [*APART, ("grpc.enable_retries", 0)]
        async with grpc.aio.insecure_channel(lone_system.address, options=options) as channel:
            stub: Any = TaskServiceStub(channel)

            async def again_and_again() -> None:
                for _ in range(30):
                    await stub.GetTask(pb.GetTaskRequest(task_id=task_id), timeout=100)

            await asyncio.gather(*(again_and_again() for _ in range(100)))

    asyncio.run(ask())
