"""`atm task cancel`: asks before it cancels several."""

from __future__ import annotations

import getpass
import io
import json
import socket
from typing import Any

import grpc
import pytest
from fake_task_service import FakeTaskService

from atm.rpc import task_service_pb2 as pb


class Terminal(io.StringIO):
    """A stdin at which somebody sits."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def tasks(atm: Any) -> list[str]:
    return [atm("task", "create", "stuck", "-o", "name").out.strip() for _ in range(5)]


def cancelled(service: FakeTaskService) -> list[str]:
    return [request.task_id for request in service.received(pb.CancelTaskRequest)]


def test_one_task_is_cancelled_without_a_question_and_says_who_asked(
    atm: Any, service: FakeTaskService, tasks: list[str]
) -> None:
    assert atm("task", "cancel", tasks[0]).code == 0
    [request] = service.received(pb.CancelTaskRequest)
    assert request.requested_by == f"{getpass.getuser()}@{socket.gethostname()}"


def test_several_tasks_are_cancelled_after_a_yes(
    atm: Any, service: FakeTaskService, tasks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    outcome = atm("task", "cancel", *tasks, "-o", "name")
    assert outcome.code == 0
    assert outcome.out.splitlines() == tasks == cancelled(service)
    assert "Cancel 5 tasks (task-1, task-2, task-3 and 2 more)?" in outcome.err


def test_a_no_cancels_nothing(
    atm: Any, service: FakeTaskService, tasks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    assert atm("task", "cancel", *tasks).code == 1
    assert cancelled(service) == []


def test_where_nobody_can_be_asked_yes_must_be_given(
    atm: Any, service: FakeTaskService, tasks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    outcome = atm("task", "cancel", *tasks)
    assert outcome.code == 2
    assert "--yes" in outcome.err
    assert cancelled(service) == []
    assert atm("task", "cancel", *tasks, "--yes").code == 0
    assert cancelled(service) == tasks


def test_an_id_that_is_given_twice_is_one_task(atm: Any, service: FakeTaskService, tasks: list[str]) -> None:
    assert atm("task", "cancel", tasks[0], tasks[0]).code == 0
    assert cancelled(service) == tasks[:1]


def test_a_dry_run_shows_what_would_happen_and_cancels_nothing(
    atm: Any, service: FakeTaskService, tasks: list[str]
) -> None:
    atm("task", "cancel", tasks[0])
    before = cancelled(service)
    outcome = atm("task", "cancel", *tasks[:2], "--dry-run", "-o", "json")
    assert outcome.code == 5
    assert [row["success"] for row in json.loads(outcome.out)] == [False, True]
    assert cancelled(service) == before


def test_one_that_fails_does_not_keep_the_others(
    atm: Any, service: FakeTaskService, tasks: list[str]
) -> None:
    outcome = atm("task", "cancel", tasks[0], "nope", tasks[1], "--yes", "-o", "name")
    assert outcome.code == 3
    assert outcome.out.splitlines() == tasks[:2]
    assert "nope" in outcome.err


def test_a_server_that_goes_away_ends_it_after_showing_what_was_done(
    atm: Any, service: FakeTaskService, tasks: list[str]
) -> None:
    def let_one_pass(_context: grpc.ServicerContext) -> None:
        service.answers.extend([grpc.StatusCode.UNAVAILABLE] * 5)

    service.answers = [let_one_pass]
    outcome = atm("task", "cancel", *tasks, "--yes", "-o", "name")
    assert outcome.code == 6
    assert outcome.out.splitlines() == tasks[:1]
