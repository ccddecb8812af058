"""Every answer other than OK is one typed error."""

from __future__ import annotations

import socket
import threading
from typing import Any

import grpc
import pytest
from fake_task_service import FakeTaskService, info, retry_in, rich_status, serving, violations

from atm import errors
from atm.client.errors import UNREACHABLE
from atm.errors import FieldViolation

Code = grpc.StatusCode


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code.INVALID_ARGUMENT, errors.InvalidArgumentError),
        (Code.NOT_FOUND, errors.TaskNotFoundError),
        (Code.FAILED_PRECONDITION, errors.PreconditionError),
        (Code.ALREADY_EXISTS, errors.RequestReusedError),
        (Code.RESOURCE_EXHAUSTED, errors.ExhaustedError),
        (Code.DEADLINE_EXCEEDED, errors.DeadlineError),
        (Code.PERMISSION_DENIED, errors.PermissionDeniedError),
        (Code.UNAUTHENTICATED, errors.PermissionDeniedError),
        (Code.CANCELLED, errors.UnavailableError),
        (Code.INTERNAL, errors.UnexpectedError),
        (Code.UNKNOWN, errors.UnexpectedError),
        (Code.DATA_LOSS, errors.UnexpectedError),
        (Code.UNIMPLEMENTED, errors.UnexpectedError),
    ],
)
def test_a_code_without_details_still_gives_its_error(
    client: Any, service: FakeTaskService, code: grpc.StatusCode, kind: type[errors.ServiceError]
) -> None:
    service.answers = [code]
    with pytest.raises(kind) as caught:
        client.get_task("some-id")
    assert type(caught.value) is kind
    assert f"answered {code.name}" in caught.value.message
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    assert caught.value.retry_after is None


def test_reason_and_metadata_come_from_the_error_info(client: Any, service: FakeTaskService) -> None:
    detail = info("UNKNOWN_TASK_TYPE", task_type="sned", similar="send")
    service.answers = [rich_status(Code.FAILED_PRECONDITION, "no such type", detail)]
    with pytest.raises(errors.PreconditionError) as caught:
        client.create_task("sned")
    assert str(caught.value) == "no such type"
    assert caught.value.reason == "UNKNOWN_TASK_TYPE"
    assert caught.value.metadata == {"task_type": "sned", "similar": "send"}


def test_a_foreign_domain_is_not_taken_for_a_reason_of_atm(client: Any, service: FakeTaskService) -> None:
    service.answers = [
        rich_status(Code.FAILED_PRECONDITION, "no", info("STRANGE", domain="proxy.example.org"))
    ]
    with pytest.raises(errors.PreconditionError) as caught:
        client.create_task("send")
    assert caught.value.reason == "FAILED_PRECONDITION"


def test_each_field_violation_is_kept(client: Any, service: FakeTaskService) -> None:
    bad = violations(task_type="is empty", priority="takes 0 or 1")
    service.answers = [rich_status(Code.INVALID_ARGUMENT, "refused", info("INVALID_REQUEST"), bad)]
    with pytest.raises(errors.InvalidArgumentError) as caught:
        client.create_task("")
    assert set(caught.value.violations) == {
        FieldViolation("task_type", "is empty"),
        FieldViolation("priority", "takes 0 or 1"),
    }


def test_the_wait_before_another_try_is_in_seconds(
    make_client: Any, address: str, service: FakeTaskService
) -> None:
    client = make_client(address, retries=False)
    service.answers = [rich_status(Code.RESOURCE_EXHAUSTED, "busy", info("BUSY"), retry_in(250))]
    with pytest.raises(errors.ExhaustedError) as caught:
        client.get_statistics()
    assert caught.value.retry_after == 0.25


def test_details_that_cannot_be_read_do_not_hide_the_code(client: Any, service: FakeTaskService) -> None:
    def garble(context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff\xff"),))
        context.abort(Code.NOT_FOUND, "gone")

    service.answers = [garble]
    with pytest.raises(errors.TaskNotFoundError) as caught:
        client.get_task("the-id")
    assert caught.value.task_id == "the-id"


def test_a_call_has_a_deadline_of_its_own(client: Any, service: FakeTaskService) -> None:
    given_up = threading.Event()
    service.answers = [lambda _context: given_up.wait(60)]
    with pytest.raises(errors.DeadlineError):
        client.get_statistics(deadline=0.1)
    # The answer would have come only now.
    given_up.set()


def test_unavailable_is_tried_again_until_it_works(client: Any, service: FakeTaskService) -> None:
    service.answers = [Code.UNAVAILABLE, Code.UNAVAILABLE]
    assert client.create_task("send").task_id == "task-1"
    assert len(service.requests) == 3


def test_unavailable_is_given_up_after_five_tries(client: Any, service: FakeTaskService) -> None:
    gone = rich_status(Code.UNAVAILABLE, "no database", info("STORE_UNAVAILABLE"), retry_in(100))
    service.answers = [gone] * 9
    with pytest.raises(errors.UnavailableError, match="no database") as caught:
        client.get_statistics()
    assert caught.value.reason == "STORE_UNAVAILABLE"
    assert len(service.requests) == 5


def test_nothing_but_unavailable_is_tried_again(client: Any, service: FakeTaskService) -> None:
    service.answers = [Code.RESOURCE_EXHAUSTED]
    with pytest.raises(errors.ExhaustedError):
        client.get_statistics()
    assert len(service.requests) == 1


def test_without_retries_the_first_unavailable_is_the_answer(
    make_client: Any, address: str, service: FakeTaskService
) -> None:
    service.answers = [Code.UNAVAILABLE]
    with pytest.raises(errors.UnavailableError):
        make_client(address, retries=False).get_statistics()
    assert len(service.requests) == 1


def test_a_server_that_is_not_there_is_unreachable(make_client: Any) -> None:
    with pytest.raises(errors.UnavailableError) as caught:
        make_client(f"127.0.0.1:{free_port()}", retries=False).get_statistics()
    assert caught.value.reason == UNREACHABLE


def test_a_server_that_starts_a_moment_later_is_found(make_client: Any, service: FakeTaskService) -> None:
    client = make_client(f"127.0.0.1:{(port := free_port())}")
    with pytest.raises(errors.UnavailableError):
        client.get_statistics(deadline=5)
    with serving(service, port):
        assert client.get_statistics(deadline=5).workers == 1
