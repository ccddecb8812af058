"""Workers whose threads are lost, or that have done their share, end in order, and are started anew."""

from __future__ import annotations

import pytest
from fix_system import System, eventually

from atm.processes import EXIT_RECYCLED, EXIT_STUCK

SHORT = {"ATM_DRAIN_SECONDS": "1"}


@pytest.mark.parametrize(("task_type", "place"), [("hang", "hang"), ("async_hang", "sleep")])
def test_a_worker_whose_threads_are_held_is_started_anew(
    lone_system: System, task_type: str, place: str
) -> None:
    server = lone_system.start_server("--workers", "1", "--threads", "2", environment=SHORT)
    client = lone_system.client()
    (old,) = eventually(client.list_workers)
    # One of two: as many as half.
    held = client.create_task(task_type, {"until": "never"}, timeout=1).task_id
    beside = client.create_task("hold", {"until": "go"}, max_retry=0).task_id
    eventually(lambda: lone_system.marks(held) and lone_system.marks(beside))
    assert client.wait_for_task(held, 60).status == "TIMEOUT"
    listed = eventually(lambda: [one for one in client.list_workers() if one.stuck_tasks])
    assert [one.stuck_tasks for one in listed] == [(held,)]
    eventually(lambda: [one for one in client.list_workers() if one.worker_id != old.worker_id])
    # What ran beside it was handed back, and charged to nobody.
    eventually(lambda: len(lone_system.marks(beside)) == 2)
    lone_system.let_go("go")
    done = client.wait_for_task(beside, 60)
    # By its starts: an attempt that is claimed and handed back before it begins counts as one, too.
    assert (done.status, done.retry_count, len(lone_system.marks(beside))) == ("SUCCESS", 0, 2)
    said = server.output()
    assert f"task {held} ({task_type}) holds a thread" in said
    assert f" in {place}\n" in said, "where it is"
    assert "1 of its 2 threads are held by handlers that do not return" in said
    # On a busy machine it may not end in time; then it is killed by the process of its heartbeat.
    assert f"worker 1 ended (exit code {EXIT_STUCK})" in said or f"{old.worker_id} does not stop" in said
    lone_system.check_history()


def test_a_cancelled_handler_that_does_not_react_ends_cancelled_and_is_listed(lone_system: System) -> None:
    lone_system.start_server()
    worker = lone_system.start_worker(threads=4, environment=SHORT)
    client = lone_system.client()
    held = client.create_task("hang", {"until": "never"}).task_id
    eventually(lambda: lone_system.marks(held))
    client.cancel_task(held)
    assert client.wait_for_task(held, 60).status == "CANCELLED"
    (listed,) = eventually(lambda: [one for one in client.list_workers() if one.stuck_tasks])
    assert (listed.stuck_tasks, listed.load) == ((held,), 1)
    # One of four: the others work on.
    assert client.wait_for_task(client.create_task("echo").task_id, 60).succeeded
    assert worker.terminate() == 0
    lone_system.check_history()


def test_a_master_ends_with_the_code_of_the_worker_whose_threads_are_held(lone_system: System) -> None:
    lone_system.start_server()
    worker = lone_system.start_worker(threads=1, processes=2, environment=SHORT)
    client = lone_system.client()
    client.create_task("hang", {"until": "never"}, timeout=1)
    code = worker.popen.wait(60)
    assert code == EXIT_STUCK or "does not stop: it is killed" in worker.output()
    # Asked, not found dead.
    assert "exited unexpectedly" not in worker.output()
    assert client.list_workers() == []
    lone_system.check_history()


def _run_many(system: System, count: int) -> None:
    client = system.client()
    orders = [{"task_type": "slow", "payload": {"seconds": "0.05"}, "max_retry": 0}] * count
    tasks = [task.task_id for task in client.create_tasks(orders)]
    done = [client.wait_for_task(task, 60) for task in tasks]
    assert {task.status for task in done} == {"SUCCESS"}
    assert {task.retry_count for task in done} == {0}
    # Nothing was handed back either: each had time to end.
    assert {len(system.marks(task)) for task in tasks} == {1}


def test_workers_that_have_done_their_share_are_replaced_without_a_task_that_notices(
    lone_system: System,
) -> None:
    few = {"ATM_MAX_TASKS": "60", "ATM_DRAIN_SECONDS": "30"}
    server = lone_system.start_server("--workers", "2", "--threads", "2", environment=few)
    client = lone_system.client()
    eventually(lambda: len(client.list_workers()) == 2)
    before = {one.worker_id for one in client.list_workers()}
    _run_many(lone_system, 400)
    eventually(lambda: {one.worker_id for one in client.list_workers()} - before)
    said = server.output()
    assert "its share of ATM_MAX_TASKS" in said
    assert "ended, as it shall after its share of work; started again" in said
    for alarm in ("WARNING", "ERROR", "CRITICAL", "unexpectedly"):
        assert alarm not in said, said
    lone_system.check_history()


def test_a_worker_that_holds_too_much_memory_is_replaced(lone_system: System) -> None:
    lone_system.start_server()
    worker = lone_system.start_worker(environment={"ATM_MAX_MEMORY_MB": "1"})
    client = lone_system.client()
    done = client.wait_for_task(client.create_task("echo").task_id, 60)
    assert done.status == "SUCCESS"
    assert worker.popen.wait(60) == EXIT_RECYCLED
    assert "ATM_MAX_MEMORY_MB is 1" in worker.output()
