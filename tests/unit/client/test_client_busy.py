"""A server that has no room for a call, and says when to come back."""

from __future__ import annotations

from typing import Any

import pytest
from fake_task_service import FakeTaskService, info, retry_in, rich_status
from grpc import StatusCode

from atm.errors import ExhaustedError
from atm.rpc import task_service_pb2 as pb


def busy(milliseconds: int) -> Any:
    """An answer that asks for another try after so long."""
    return rich_status(StatusCode.RESOURCE_EXHAUSTED, "full", info("TOO_BUSY"), retry_in(milliseconds))


def test_a_call_that_had_no_room_is_made_again_and_makes_one_task(
    client: Any, service: FakeTaskService
) -> None:
    service.answers = [busy(1), busy(1), busy(1)]
    task = client.create_task("send")
    assert list(service.tasks) == [task.task_id]
    assert len({request.request_id for request in service.requests}) == 1
    assert len(service.requests) == 4


def test_without_a_time_to_come_back_it_is_not(client: Any, service: FakeTaskService) -> None:
    service.answers = [rich_status(StatusCode.RESOURCE_EXHAUSTED, "too large", info("X"))]
    with pytest.raises(ExhaustedError):
        client.create_task("send")
    assert len(service.requests) == 1


def test_a_delay_that_the_deadline_does_not_allow_is_told_at_once(
    client: Any, service: FakeTaskService
) -> None:
    service.answers = [busy(900)]
    with pytest.raises(ExhaustedError) as caught:
        client.create_task("send", deadline=0.8)
    assert caught.value.retry_after == 0.9
    assert len(service.requests) == 1


def test_a_client_without_retries_makes_no_other_try(
    make_client: Any, address: str, service: FakeTaskService
) -> None:
    service.answers = [busy(1)]
    with pytest.raises(ExhaustedError):
        make_client(address, retries=False).create_task("send")


def test_who_cannot_wait_at_the_server_looks_again_and_again(client: Any, service: FakeTaskService) -> None:
    client.create_task("send")
    service.requests.clear()
    # The first look, then a wait that is refused.
    service.answers = [lambda _context: None, busy(1)]
    assert client.wait_for_task("task-1", 30).succeeded
    asked = [type(request) for request in service.requests]
    assert asked[:3] == [pb.GetTaskRequest, pb.WaitTaskRequest, pb.GetTaskRequest]
