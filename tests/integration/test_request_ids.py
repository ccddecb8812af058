"""A request makes one task, however often and wherever it is made."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fix_system import System

from atm.client import Client
from atm.errors import InvalidArgumentError, RequestReusedError


def test_the_same_request_gives_the_same_task(client: Client) -> None:
    first = client.create_task("echo", {"a": "1"}, request_id="same")
    client.wait_for_task(first.task_id, 30)
    again = client.create_task("echo", {"a": "1"}, request_id="same")
    assert (again.task_id, again.status) == (first.task_id, "SUCCESS")


@pytest.mark.parametrize(
    "other",
    [
        {"payload": {"a": "2"}},
        {"payload": {}},
        {"priority": "high"},
        {"max_retry": 1},
        {"timeout": 9.0},
        {"delay": 1.0},
        {"task_type": "async_echo"},
    ],
    ids=lambda value: next(iter(value)),
)
def test_another_request_by_the_same_name_is_refused(client: Client, other: dict[str, Any]) -> None:
    name = f"reused-{next(iter(other))}-{len(other.get('payload', 'x'))}"
    asked: dict[str, Any] = {"task_type": "echo", "payload": {"a": "1"}}
    first = client.create_task(**asked, request_id=name)
    with pytest.raises(RequestReusedError) as caught:
        client.create_task(**(asked | other), request_id=name)
    assert caught.value.code == "ALREADY_EXISTS"
    assert caught.value.reason == "REQUEST_ID_REUSED"
    assert caught.value.metadata["task_id"] == first.task_id


@pytest.mark.parametrize("name", ["x" * 129, "a b", "tab\t"])
def test_a_name_that_cannot_be_kept_is_refused(client: Client, name: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        client.create_task("echo", request_id=name)
    assert caught.value.violations[0].field == "request_id"


def test_without_a_name_every_call_makes_a_task(client: Client) -> None:
    assert (
        client.create_task("echo", request_id="").task_id != client.create_task("echo", request_id="").task_id
    )


def test_requests_that_race_over_two_servers_make_one_task_each(new_system: System) -> None:
    new_system.start_server()
    first = new_system.client()
    new_system.start_server()
    second = new_system.client()

    def create(number: int) -> tuple[str, str]:
        name = f"race-{number % 20}"
        client = first if number // 20 % 2 else second
        return name, client.create_task("example_task", {"n": name}, request_id=name).task_id

    with ThreadPoolExecutor(16) as pool:
        made = set(pool.map(create, range(200)))
    assert len(made) == 20
    assert len({task_id for _, task_id in made}) == 20
    new_system.check_history()
