"""Cancelling: what waits never starts, what runs is told and stops, and the history says how and by whom."""

from __future__ import annotations

import os

import psutil
import pytest
from fix_system import System, eventually

from atm.client import Client


def _running(system: System, client: Client, task_type: str) -> str:
    task = client.create_task(task_type)
    eventually(lambda: system.marks(task.task_id))
    return task.task_id


@pytest.mark.parametrize(
    ("task_type", "how"),
    [
        ("cooperative", "the handler noticed and returned"),
        ("stubborn", "an exception was raised in its thread"),
        ("async_sleep", "its coroutine was cancelled"),
        ("isolated_stuck", "its process was killed"),
    ],
)
def test_a_running_task_is_stopped_and_its_history_says_how(
    system: System, client: Client, task_type: str, how: str
) -> None:
    task_id = _running(system, client, task_type)
    answer = client.cancel_task(task_id, requested_by="Ada")
    assert answer.success
    assert "requested" in answer.message
    done = client.wait_for_task(task_id, 30)
    assert (done.status, done.cancel_requested_by) == ("CANCELLED", "Ada")
    final = next(row for row in client.get_task_logs(task_id) if row.to_status == "CANCELLED")
    assert "cancelled by Ada" in final.message
    assert how in final.message


def test_a_killed_process_is_gone(system: System, client: Client) -> None:
    task_id = _running(system, client, "isolated_stuck")
    pid = int(system.marks(task_id)[0].split()[1])
    assert pid != os.getpid()
    client.cancel_task(task_id)
    eventually(lambda: not psutil.pid_exists(pid))


def test_tasks_that_wait_never_start(system: System, client: Client) -> None:
    blockers = [_running(system, client, "cooperative") for _ in range(4)]
    waiting = [client.create_task("note_start").task_id for _ in range(20)]
    for task_id in waiting:
        answer = client.cancel_task(task_id)
        assert answer.success
        assert client.get_task(task_id).status == "CANCELLED"
    for task_id in blockers:
        client.cancel_task(task_id)
    after = client.create_task("echo").task_id
    client.wait_for_task(after, 30)
    for task_id in waiting:
        assert [row.to_status for row in client.get_task_logs(task_id)] == ["PENDING", "CANCELLED"]


def test_a_task_that_waits_for_its_retry_is_cancelled_at_once(client: Client) -> None:
    from atm.retrying import Retry

    task = client.create_task("fail_times", {"times": "9"}, retry=Retry("FIXED", delay=60))
    eventually(lambda: client.get_task(task.task_id).retry_count == 1)
    assert client.cancel_task(task.task_id).success
    assert client.get_task(task.task_id).status == "CANCELLED"


def test_a_finished_task_stays_as_it_is(client: Client) -> None:
    task = client.wait_for_task(client.create_task("echo").task_id, 30)
    answer = client.cancel_task(task.task_id)
    assert not answer.success
    assert "SUCCESS" in answer.message


def test_a_handler_is_told_at_once_and_not_with_the_next_heartbeat(new_system: System) -> None:
    # SQL is looked at with each heartbeat: there is none before the handler has given up waiting.
    rare = {"ATM_HEARTBEAT_SECONDS": "300", "ATM_WORKER_LEASE_SECONDS": "1200"}
    new_system.start_server(environment=rare)
    new_system.start_worker(environment=rare)
    client = new_system.client()
    for _ in range(5):
        task_id = _running(new_system, client, "cooperative")
        client.cancel_task(task_id)
        assert client.wait_for_task(task_id, 30).status == "CANCELLED"
        assert any(mark.startswith("noticed") for mark in new_system.marks(task_id))


def test_no_exception_leaks_into_the_next_task(system: System, client: Client) -> None:
    ids = [client.create_task("slow", {"seconds": "0.05"}).task_id for _ in range(100)]
    for task_id in ids:
        client.cancel_task(task_id)
    for task_id in ids:
        assert client.wait_for_task(task_id, 30).status in ("CANCELLED", "SUCCESS")
    echoes = [client.create_task("echo").task_id for _ in range(20)]
    assert {client.wait_for_task(task_id, 30).status for task_id in echoes} == {"SUCCESS"}


def test_without_redis_a_running_task_is_told_through_sql(new_system: System, own_valkey: object) -> None:
    from fix_valkey import Valkey

    assert isinstance(own_valkey, Valkey)
    new_system.environment["REDIS_ADDR"] = own_valkey.address
    new_system.start_server()
    new_system.start_worker()
    client = new_system.client()
    task_id = _running(new_system, client, "cooperative")
    own_valkey.stop()
    assert client.cancel_task(task_id).success
    assert client.wait_for_task(task_id, 30).status == "CANCELLED"
