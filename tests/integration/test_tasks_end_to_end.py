"""A task goes in over gRPC, is committed, runs on a worker, and can be read back."""

from __future__ import annotations

from atm.client import Client


def test_a_task_runs_and_its_result_can_be_read(client: Client) -> None:
    task = client.create_task("echo", {"name": "Ada", "count": 3})
    assert task.status == "PENDING"
    done = client.wait_for_task(task.task_id, 30)
    assert done.status == "SUCCESS"
    assert done.result == {"name": "Ada", "count": "3"}
    assert done.worker_id
    assert (done.retry_count, done.attempt) == (0, 1)
    assert done.started_at
    assert done.completed_at
    assert task.created_at
    assert task.created_at <= done.started_at <= done.completed_at


def test_an_async_handler_runs(client: Client) -> None:
    task = client.create_task("async_echo", {"a": "b"})
    assert client.wait_for_task(task.task_id, 30).result == {"a": "b"}


def test_lines_and_progress_of_a_handler_are_in_the_history(client: Client) -> None:
    task = client.wait_for_task(client.create_task("talk").task_id, 30)
    infos = [row.message for row in client.get_task_logs(task.task_id) if row.log_type == "INFO"]
    assert infos == ["hello there", "WARNING: careful"]
    assert (task.progress, task.progress_message) == (1.0, "half")
