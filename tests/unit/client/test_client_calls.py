"""What each call sends, and what it makes of the answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from fake_task_service import STATUSES, FakeTaskService

from atm import Retry
from atm.client import AsyncClient, CancelResult, Client, InvalidArgumentError, TaskNotFoundError
from atm.errors import SettingsError
from atm.rpc import task_service_pb2 as pb


def test_a_created_task_comes_back_as_it_was_accepted(client: Any, service: FakeTaskService) -> None:
    task = client.create_task(
        "send", {"to": "me", "tags": ["ü", 1]}, priority="high", max_retry=2, timeout=1.5
    )
    assert (task.task_id, task.status, task.priority) == ("task-1", "PENDING", 1)
    assert task.payload == {"to": "me", "tags": '["ü",1]'}
    assert task.payload_values() == {"to": "me", "tags": ["ü", 1]}
    assert (task.max_retry, task.timeout_ms) == (2, 1500)
    assert task.created_at == datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
    assert task.started_at is None
    assert not task.is_final


def test_what_is_not_given_is_not_sent(client: Any, service: FakeTaskService) -> None:
    client.create_task("send")
    request = service.requests[0]
    # But for the name that the client gives the request, so that a retried call makes one task.
    assert request == pb.CreateTaskRequest(task_type="send", request_id=request.request_id)
    assert request.request_id
    assert not service.requests[0].HasField("max_retry")
    assert not service.requests[0].HasField("timeout_ms")


def test_a_zero_is_sent_and_not_taken_for_absence(client: Any, service: FakeTaskService) -> None:
    client.create_task("send", max_retry=0, timeout=0)
    assert service.requests[0].HasField("max_retry")
    assert service.requests[0].HasField("timeout_ms")


def test_a_retry_policy_travels_in_milliseconds(client: Any, service: FakeTaskService) -> None:
    client.create_task("send", retry=Retry(strategy="FIXED", delay=0.25, backoff_rate=3, max_delay=60))
    policy = pb.RetryPolicy(strategy="FIXED", delay_ms=250, backoff_rate=3, max_delay_ms=60_000)
    assert service.requests[0].retry == policy


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"payload": {"x": float("nan")}}, "payload.x"),
        ({"payload": {"x": object()}}, "payload.x"),
        ({"payload": {1: "x"}}, "payload"),
        ({"payload": ["x"]}, "payload"),
        ({"payload": {"x": "\udcff"}}, "payload.x"),
        ({"priority": "urgent"}, "priority"),
        ({"priority": -1}, "priority"),
        ({"max_retry": 2**40}, "max_retry"),
        ({"timeout": -1}, "timeout_ms"),
        ({"timeout": float("inf")}, "timeout_ms"),
    ],
)
def test_what_the_wire_cannot_carry_is_refused_by_field_and_not_sent(
    client: Any, service: FakeTaskService, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        client.create_task("send", **arguments)
    assert [violation.field for violation in caught.value.violations] == [field]
    assert service.requests == []


def test_cancelling_says_who_asked_and_tells_a_finished_task_apart(
    client: Any, service: FakeTaskService
) -> None:
    client.create_task("send")
    assert client.cancel_task("task-1", requested_by="me@here") == CancelResult("task-1", True, "cancelled")
    assert service.received(pb.CancelTaskRequest)[0].requested_by == "me@here"
    again = client.cancel_task("task-1")
    assert not again.success
    assert "CANCELLED" in again.message


def test_logs_come_oldest_first(client: Any) -> None:
    client.create_task("send")
    client.wait_for_task("task-1", 5)
    path = [(row.from_status, row.to_status) for row in client.get_task_logs("task-1")]
    assert path == [("", "PENDING"), ("PENDING", "PROCESSING"), ("PROCESSING", "SUCCESS")]


def test_a_list_without_filters_asks_for_any_priority(client: Any, service: FakeTaskService) -> None:
    for number in range(3):
        client.create_task("send", priority=number % 2)
    page = client.list_tasks(page=2, page_size=2)
    assert service.requests[-1] == pb.ListTasksRequest(priority=-1, page=2, page_size=2)
    assert [task.task_id for task in page] == ["task-1"]
    assert (page.total, page.page, page.page_size, page.pages) == (3, 2, 2, 2)


def test_a_list_filters_by_status_priority_and_type(client: Any, service: FakeTaskService) -> None:
    client.create_task("send", priority="high")
    assert len(client.list_tasks("PENDING", "high", "send")) == 1
    assert service.requests[-1] == pb.ListTasksRequest(
        status="PENDING", priority=1, task_type="send", page=1, page_size=20
    )
    assert len(client.list_tasks(priority=0)) == 0


def test_workers_and_statistics_are_read(client: Any) -> None:
    client.create_task("send")
    [worker] = client.list_workers()
    assert (worker.worker_id, worker.task_types, worker.started_at) == ("w-1", ("a", "b"), None)
    statistics = client.get_statistics()
    assert statistics.tasks_by_status["PENDING"] == 1
    assert tuple(statistics.tasks_by_status) == STATUSES
    assert (statistics.total, statistics.tasks_by_type, statistics.workers) == (1, {"send": 1}, 1)


def test_an_unknown_id_is_a_task_not_found_error_with_the_id(client: Any) -> None:
    with pytest.raises(TaskNotFoundError) as caught:
        client.get_task("nope")
    assert caught.value.task_id == "nope"


def test_a_task_written_as_json_has_iso_times_and_nulls(client: Any) -> None:
    written = client.create_task("send", {"n": 1}).to_dict()
    assert written["created_at"] == "2026-01-31T12:00:00.123456Z"
    assert written["completed_at"] is None
    assert written["payload"] == {"n": "1"}
    assert client.list_tasks().to_dict()["tasks"] == [written]


def test_the_two_clients_offer_the_same_methods() -> None:
    def methods(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert methods(Client) == methods(AsyncClient)


@pytest.mark.parametrize(
    "address", ["", "host:port", "host:0", "host:99999", "[::1", "a b", "http://x", "[]:1"]
)
def test_an_address_that_cannot_be_read_is_refused_at_once(make_client: Any, address: str) -> None:
    with pytest.raises(SettingsError, match="HOST:PORT"):
        make_client(address)


async def test_the_clients_are_context_managers(address: str) -> None:
    with Client(address) as client:
        assert client.create_task("send").task_id == "task-1"
    with pytest.raises(ValueError, match="closed"):
        client.get_task("task-1")
    async with AsyncClient(address) as aio:
        assert (await aio.get_task("task-1")).task_id == "task-1"
