"""Failures are tried again as their policy says, attempts that are out of time end, and it is told why."""

from __future__ import annotations

import os

from fix_system import System, eventually
from measured import UNMEASURED

from atm.client import Client
from atm.retrying import Retry


def test_a_failure_is_tried_again_and_each_retry_is_explained(client: Client) -> None:
    seen: set[tuple[int, str]] = set()
    task = client.create_task("fail_times", {"times": "2"})
    done = client.wait_for_task(task.task_id, 20, lambda state: seen.add((state.retry_count, state.status)))
    assert (done.status, done.retry_count, done.attempt) == ("SUCCESS", 2, 3)
    rows = [row for row in client.get_task_logs(task.task_id) if row.log_type == "RETRY"]
    assert [(row.from_status, row.to_status, row.attempt) for row in rows] == [
        ("PROCESSING", "PENDING", 1),
        ("PROCESSING", "PENDING", 2),
    ]
    assert "ValueError: failure number 1" in rows[0].message
    assert "Traceback (most recent call last)" in rows[0].message
    assert (0, "SUCCESS") not in seen


def test_a_task_without_retries_left_fails_with_its_error(client: Client) -> None:
    task = client.create_task("fail_times", {"times": "9"}, max_retry=1)
    done = client.wait_for_task(task.task_id, 30)
    assert (done.status, done.error_reason, done.retry_count, done.attempt) == (
        "FAILED",
        "HANDLER_ERROR",
        1,
        2,
    )
    assert done.error_message == "ValueError: failure number 2"
    errors = [row.message for row in client.get_task_logs(task.task_id) if row.log_type == "ERROR"]
    assert len(errors) == 1
    assert "Traceback" in errors[0]


def test_an_error_that_forbids_retries_is_final(client: Client) -> None:
    done = client.wait_for_task(client.create_task("fail_for_good").task_id, 30)
    assert (done.status, done.attempt, done.retry_count) == ("FAILED", 1, 0)


def test_a_task_can_bring_its_own_policy(client: Client) -> None:
    policy = Retry("FIXED", delay=0.5)
    task = client.create_task("fail_times", {"times": "1"}, retry=policy)
    waiting = eventually(lambda: (t := client.get_task(task.task_id)).retry_count == 1 and t)
    assert waiting.due_at is not None
    done = client.wait_for_task(task.task_id, 30)
    assert done.started_at is not None
    assert done.started_at >= waiting.due_at


def test_a_delayed_task_does_not_start_before(client: Client) -> None:
    task = client.create_task("echo", delay=1.0)
    done = client.wait_for_task(task.task_id, 30)
    assert done.started_at is not None
    assert task.created_at is not None
    assert (done.started_at - task.created_at).total_seconds() >= 1.0


def test_a_plain_handler_that_is_out_of_time_ends_or_is_tried_again(client: Client) -> None:
    task = client.create_task("slow", {"seconds": "20"}, timeout=0.4)
    done = client.wait_for_task(task.task_id, 30)
    assert (done.status, done.error_reason, done.attempt) == ("TIMEOUT", "TIMED_OUT", 2)
    assert [
        row.log_type for row in client.get_task_logs(task.task_id) if row.from_status == "PROCESSING"
    ] == [
        "RETRY",
        "STATE_CHANGE",
    ]


def test_an_async_and_an_isolated_handler_are_stopped_in_time_too(client: Client) -> None:
    for task_type in ("async_sleep", "isolated_stuck"):
        task = client.create_task(task_type, timeout=1.0, max_retry=0)
        assert client.wait_for_task(task.task_id, 30).status == "TIMEOUT", task_type


def test_a_stuck_handler_is_given_up_and_its_late_result_refused(new_system: System) -> None:
    new_system.start_server()
    new_system.start_worker(environment=UNMEASURED)
    client = new_system.client()
    pipe = new_system.folder / "stuck"
    os.mkfifo(pipe)
    task = client.create_task("stuck", {"until": pipe.name}, timeout=0.5)
    assert client.wait_for_task(task.task_id, 30).status == "TIMEOUT"
    # Its handler is in its one call until now.
    os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    refused = eventually(
        lambda: [row for row in client.get_task_logs(task.task_id) if "refused" in row.message], 10
    )
    assert refused[0].log_type == "INFO"
    assert client.get_task(task.task_id).status == "TIMEOUT"
    new_system.check_history()
