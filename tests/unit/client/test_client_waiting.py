"""wait_for_task: when it asks, what it tells, when it gives up."""

from __future__ import annotations

from typing import Any

import pytest
from fake_task_service import FakeTaskService, info, rich_status, serving
from grpc import StatusCode

from atm.client import AsyncClient, Client, Task
from atm.client.polling import MAX_PAUSE_SECONDS, OUTAGE_SECONDS, Polling
from atm.errors import DeadlineError, TaskNotFoundError, UnavailableError, WaitTimeoutError
from atm.rpc import task_service_pb2 as pb


class Clock:
    """A time that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def polling(clock: Clock, timeout: float | None = None) -> Polling:
    return Polling("t", timeout=timeout, call_deadline=10, clock=clock)


def test_waiting_ends_with_the_task_however_it_ended(client: Any) -> None:
    client.create_task("send")
    client.create_task("fails")
    assert client.wait_for_task("task-1", 5).succeeded
    failed = client.wait_for_task("task-2", 5)
    assert failed.is_final
    assert not failed.succeeded
    assert failed.result_values() == {"n": 1}


def test_each_change_is_told_once_and_in_order(client: Any) -> None:
    client.create_task("send")
    told: list[str] = []
    client.wait_for_task("task-1", 5, lambda task: told.append(task.status))
    assert told == ["PENDING", "PROCESSING", "SUCCESS"]


async def test_the_async_client_awaits_a_coroutine_that_is_told(address: str) -> None:
    told: list[str] = []

    async def tell(task: Task) -> None:
        told.append(task.status)

    async with AsyncClient(address) as client:
        await client.create_task("send")
        await client.wait_for_task("task-1", 5, tell)
    assert told == ["PENDING", "PROCESSING", "SUCCESS"]


def test_waiting_gives_up_when_its_time_is_over_and_says_where_the_task_stands(
    client: Any, service: FakeTaskService
) -> None:
    client.create_task("stuck")
    with pytest.raises(WaitTimeoutError) as caught:
        client.wait_for_task("task-1", 0.3)
    # Every call is held for what is left of the time, and no longer.
    held = [request.timeout_ms for request in service.received(pb.WaitTaskRequest)]
    assert held == sorted(held, reverse=True)
    assert all(1 <= hold <= 300 for hold in held)
    assert (caught.value.task_id, caught.value.status, caught.value.seconds) == ("task-1", "PROCESSING", 0.3)


def test_waiting_no_time_at_all_looks_once(client: Any, service: FakeTaskService) -> None:
    client.create_task("stuck")
    with pytest.raises(WaitTimeoutError):
        client.wait_for_task("task-1", 0)
    assert len(service.requests) == 2


def test_an_unknown_task_is_not_waited_for(client: Any) -> None:
    with pytest.raises(TaskNotFoundError):
        client.wait_for_task("nope", 5)


def test_a_server_that_was_never_there_ends_the_wait(make_client: Any) -> None:
    with pytest.raises(UnavailableError):
        make_client("127.0.0.1:1", retries=False).wait_for_task("t", 30)


def test_a_restart_of_the_server_does_not_end_the_wait(service: FakeTaskService) -> None:
    with serving(service) as address, Client(address, retries=False) as client:
        client.create_task("send")
        told: list[str] = []

        def break_once(task: Task) -> None:
            told.append(task.status)
            if len(told) == 1:
                service.answers = [rich_status(StatusCode.UNAVAILABLE, "draining", info("DRAINING"))] * 3

        assert client.wait_for_task("task-1", 10, break_once).succeeded


def test_the_pauses_grow_from_20_to_500_milliseconds() -> None:
    clock = Clock()
    schedule = polling(clock)
    pauses = [schedule.pause() for _ in range(20)]
    assert pauses[0] == 0.02
    assert pauses == sorted(pauses)
    assert pauses[-1] == MAX_PAUSE_SECONDS == 0.5


def test_the_last_pause_and_the_last_call_fit_into_the_time_that_is_left() -> None:
    clock = Clock()
    schedule = polling(clock, timeout=5)
    assert schedule.deadline() == 5
    for _ in range(20):
        schedule.pause()
    clock.now += 4.9
    assert schedule.pause() == pytest.approx(0.1)
    assert schedule.deadline() == 1.0


def test_an_outage_is_borne_for_a_while_only() -> None:
    clock = Clock()
    schedule = polling(clock)
    schedule.saw(Task("t", "send", "PROCESSING"))
    clock.now += OUTAGE_SECONDS - 1
    schedule.failed(UnavailableError("gone"))
    schedule.failed(DeadlineError("slow"))
    clock.now += 2
    with pytest.raises(UnavailableError):
        schedule.failed(UnavailableError("gone"))
