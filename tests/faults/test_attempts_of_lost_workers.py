"""What a lost worker held: who is blamed, who is not, and that nobody writes into a later attempt."""

from __future__ import annotations

import os
import signal

import psutil
from fix_system import Process, System, eventually

from atm.client import Client

#: Short, so that a test need not wait for the default of 8 s.
LEASE = {"ATM_WORKER_LEASE_SECONDS": "2", "ATM_HEARTBEAT_SECONDS": "0.5"}


def _pid_of(client: Client, task_id: str) -> int:
    holder = client.get_task(task_id).worker_id
    return next(worker.pid for worker in client.list_workers() if worker.worker_id == holder)


def _messages(client: Client, task_id: str) -> str:
    return "\n".join(row.message for row in client.get_task_logs(task_id))


def _freeze(process: Process) -> list[int]:
    """The worker with everything that it has started."""
    pids = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return pids


def _frozen_with_claims_ahead(client: Client, pid: int, threads: int) -> bool:
    """Freezes the worker's process; lets it go on when it holds no more than its threads can have begun."""
    os.kill(pid, signal.SIGSTOP)
    if len(client.list_tasks("PROCESSING").tasks) > 2 * threads:
        return True
    os.kill(pid, signal.SIGCONT)
    return False


def test_a_frozen_worker_that_comes_back_is_refused_and_its_handler_told(new_system: System) -> None:
    new_system.start_server(environment=LEASE)
    first = new_system.start_worker(environment=LEASE)
    client = new_system.client()
    told = client.create_task("cooperative").task_id
    late = client.create_task("stuck", {"seconds": "3"}, max_retry=1).task_id
    eventually(lambda: new_system.marks(told) and new_system.marks(late))
    frozen = _freeze(first)
    new_system.start_worker(environment=LEASE)
    done = client.wait_for_task(late, 30)
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    # It comes back with a result; the task has ended elsewhere.
    refusal = "the result of attempt 1 was refused: the attempt had been given up on"
    eventually(lambda: refusal in _messages(client, late))
    assert client.get_task(late) == done
    assert (done.status, done.attempt) == ("SUCCESS", 2)
    # What still runs there is told.
    eventually(lambda: any(mark.startswith("noticed") for mark in new_system.marks(told)))
    eventually(lambda: "the end of attempt 1 was refused" in _messages(client, told))
    client.cancel_task(told)
    client.wait_for_task(told, 30)
    new_system.check_history()


def test_a_handler_that_holds_the_lock_of_python_is_not_taken_for_dead(new_system: System) -> None:
    new_system.start_server(environment=LEASE)
    new_system.start_worker(environment=LEASE)
    client = new_system.client()
    # More than three leases long.
    task = client.create_task("hold_gil", {"seconds": "7"})
    done = client.wait_for_task(task.task_id, 30)
    assert (done.status, done.attempt, done.retry_count) == ("SUCCESS", 1, 0)
    new_system.check_history()


def test_only_what_ran_in_a_process_that_died_is_charged_for_it(new_system: System) -> None:
    new_system.start_server(environment=LEASE)
    new_system.start_worker(threads=2, environment=LEASE)
    client = new_system.client()
    beside = client.create_task("hold", {"until": "go"}).task_id
    eventually(lambda: new_system.marks(beside))
    killer = client.create_task("die", max_retry=0).task_id
    waiting = [client.create_task("echo").task_id for _ in range(20)]
    assert client.wait_for_task(killer, 30).error_reason == "WORKER_LOST"
    new_system.let_go("go")
    new_system.start_worker(environment=LEASE, wait=False)
    assert client.wait_for_task(beside, 30).retry_count == 1
    charged = [client.wait_for_task(task_id, 30).retry_count for task_id in waiting]
    assert charged == [0] * len(waiting)
    new_system.check_history()


def test_what_was_claimed_ahead_is_not_charged_and_all_is_back_before_the_lease_is_over(
    new_system: System,
) -> None:
    # A lease so long that what is back was not missed: the worker's own heartbeat process gave it back.
    long = {"ATM_WORKER_LEASE_SECONDS": "600"}
    server = new_system.start_server(environment=long)
    worker = new_system.start_worker(threads=4, environment=long)
    client = new_system.client()
    warm = client.create_tasks([{"task_type": "echo"}] * 600)
    client.wait_for_task(warm[-1].task_id, 30)
    # Short enough to be claimed ahead of the threads.
    orders = [{"task_type": "slow", "payload": {"seconds": "0.004"}, "max_retry": 0}] * 1000
    tasks = [task.task_id for task in client.create_tasks(orders)]
    eventually(lambda: new_system.marks(tasks[300]))
    victim = _pid_of(client, tasks[300])
    eventually(lambda: _frozen_with_claims_ahead(client, victim, threads=4))
    os.kill(victim, signal.SIGKILL)
    assert worker.popen.wait(60) != 0
    eventually(lambda: not client.list_tasks("PROCESSING").tasks)
    # What was fetched and not yet claimed is missed after a lease: of the default, from now on.
    assert server.terminate() == 0
    new_system.start_server()
    client = new_system.client()
    new_system.start_worker(threads=4)
    done = [client.wait_for_task(task_id, 60) for task_id in tasks]
    # max_retry is 0: what was charged has failed. It had begun (and had perhaps ended, but its end was
    # not committed), or one of the four threads was just about to begin with it.
    failed = [task for task in done if task.status == "FAILED"]
    assert all(task.error_reason == "WORKER_LOST" for task in failed)
    marks = [new_system.marks(task.task_id) for task in failed]
    assert all(mark in ([], [f"attempt {task.attempt}"]) for mark, task in zip(marks, failed, strict=True))
    assert marks.count([]) <= 4
    back = [task for task in done if task.attempt > 1 and task.status != "FAILED"]
    assert back, "none was claimed ahead: the test shows nothing"
    assert all(task.status == "SUCCESS" and task.retry_count == 0 for task in back)
    assert all(new_system.marks(task.task_id) == [f"attempt {task.attempt}"] for task in back)
    said = [_messages(client, task.task_id) for task in back]
    assert any("stopped before it began" in messages for messages in said), said[0]
    new_system.check_history()


def test_what_waits_behind_long_tasks_starts_where_a_thread_is_free(new_system: System) -> None:
    new_system.start_server()
    new_system.start_worker(threads=2)
    client = new_system.client()
    # It learns that tasks are short ...
    warm = client.create_tasks([{"task_type": "echo"}] * 400)
    client.wait_for_task(warm[-1].task_id, 30)
    # ... and they no longer are.
    tasks = client.create_tasks([{"task_type": "hold", "payload": {"until": "go"}}] * 4)
    eventually(lambda: sum(bool(new_system.marks(task.task_id)) for task in tasks) == 2)
    new_system.start_worker(threads=2)
    eventually(lambda: all(new_system.marks(task.task_id) for task in tasks))
    new_system.let_go("go")
    done = [client.wait_for_task(task.task_id, 30) for task in tasks]
    assert all(task.status == "SUCCESS" and task.retry_count == 0 for task in done)
    new_system.check_history()


def test_an_isolated_handler_that_dies_takes_the_blame_alone(new_system: System) -> None:
    new_system.start_server()
    new_system.start_worker(threads=2)
    client = new_system.client()
    beside = client.create_task("hold", {"until": "go"}).task_id
    eventually(lambda: new_system.marks(beside))
    for how in ("exit", "signal"):
        killed = client.create_task("isolated_fails", {"how": how}, max_retry=1)
        done = client.wait_for_task(killed.task_id, 30)
        assert (done.status, done.error_reason, done.attempt) == ("FAILED", "WORKER_LOST", 2)
    new_system.let_go("go")
    assert client.wait_for_task(beside, 30).attempt == 1
    new_system.check_history()


def test_an_attempt_that_is_over_its_time_is_ended_without_its_worker(new_system: System) -> None:
    # A lease so long that the worker is not missed meanwhile.
    long = {"ATM_WORKER_LEASE_SECONDS": "120"}
    new_system.start_server(environment=long)
    worker = new_system.start_worker(environment=long)
    client = new_system.client()
    task = client.create_task("slow", {"seconds": "60"}, timeout=3, max_retry=0)
    eventually(lambda: new_system.marks(task.task_id))
    _freeze(worker)
    done = client.wait_for_task(task.task_id, 30)
    assert (done.status, done.error_reason) == ("TIMEOUT", "TIMED_OUT")
    assert "its worker did not end it" in _messages(client, task.task_id)
    new_system.check_history()
