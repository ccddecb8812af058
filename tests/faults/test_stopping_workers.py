"""Signals to stop, wherever they come and however often: a worker drains, once, and ends with 0."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from fix_system import Process, StartProcess, System, eventually
from ports import free_port

from atm.client import Client

#: Long: what is handed back was not because this was over.
PATIENT = {"ATM_DRAIN_SECONDS": "50"}
#: Short: what does not end is handed back soon.
SHORT = {"ATM_DRAIN_SECONDS": "0.5"}


def _family(process: Process) -> list[psutil.Process]:
    root = psutil.Process(process.pid)
    return [root, *root.children(recursive=True)]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _signal_all(process: Process, number: int = signal.SIGTERM) -> None:
    """What systemd does: a signal to each process of the unit, whatever sessions they made."""
    for one in _family(process):
        one.send_signal(number)


def _signal_group(process: Process) -> None:
    os.killpg(process.pid, signal.SIGTERM)


def _signal_twice(process: Process) -> None:
    # The second reaches the workers, too, when they drain.
    process.popen.terminate()
    _wait_until_it_drains(process)
    process.popen.terminate()


def _signal_workers_twice(process: Process) -> None:
    process.popen.terminate()
    _wait_until_it_drains(process)
    for _ in range(3):
        _signal_all(process)


def _interrupt_then_terminate(process: Process) -> None:
    os.killpg(process.pid, signal.SIGINT)
    _wait_until_it_drains(process)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.killpg(process.pid, number)


def _wait_until_it_drains(process: Process) -> None:
    eventually(lambda: "Shutting down" in process.output())


@pytest.mark.parametrize(
    "stop",
    [_signal_group, _signal_all, _signal_twice, _signal_workers_twice, _interrupt_then_terminate],
)
def test_a_worker_drains_once_however_it_is_told(
    lone_system: System, stop: Callable[[Process], None]
) -> None:
    lone_system.start_server()
    worker = lone_system.start_worker(environment=PATIENT)
    client = lone_system.client()
    tasks = [
        client.create_task(task_type, {"until": "go"}, max_retry=0).task_id
        for task_type in ("hold", "hold", "isolated_hold")
    ]
    eventually(lambda: all(lone_system.marks(task) for task in tasks))
    stop(worker)
    _wait_until_it_drains(worker)
    assert {client.get_task(task).status for task in tasks} == {"PROCESSING"}
    lone_system.let_go("go")
    assert worker.popen.wait(60) == 0
    done = [client.get_task(task) for task in tasks]
    assert [(task.status, task.attempt) for task in done] == [("SUCCESS", 1)] * 3
    assert "Killing" not in worker.output()
    lone_system.check_history()


def test_a_signal_while_a_worker_boots_ends_it_in_order(lone_system: System) -> None:
    slow = {"ATM_HANDLERS": "slow_import_handlers,sample_handlers"}
    worker = lone_system.start_worker(environment=slow, wait=False)
    eventually(lambda: list(lone_system.folder.glob("importing-*")))
    for _ in range(3):
        _signal_all(worker)
    lone_system.let_go("imported")
    assert worker.popen.wait(60) == 0


def test_a_new_set_of_workers_follows_a_reload_and_nothing_is_charged(lone_system: System) -> None:
    lone_system.start_server()
    # The program, not the module: Dramatiq looks for that by PATH when it begins anew.
    dramatiq = [str(Path(sys.executable).with_name("dramatiq"))]
    worker = lone_system.start_worker(processes=2, environment=SHORT, program=dramatiq)
    client = lone_system.client()
    before = {one.pid for one in client.list_workers()}
    # One ends within the drain time, the other one does not.
    held = client.create_task("hold", {"until": "go"}, max_retry=0).task_id
    eventually(lambda: lone_system.marks(held))
    short = client.create_task("slow", {"seconds": "0.2"}, max_retry=0).task_id
    eventually(lambda: lone_system.marks(short))
    os.killpg(worker.pid, signal.SIGHUP)
    eventually(lambda: len({one.pid for one in client.list_workers()} - before) == 2)
    assert worker.popen.poll() is None, "the master is the same"
    eventually(lambda: len(lone_system.marks(held)) == 2)
    lone_system.let_go("go")
    done = [client.wait_for_task(task, 60) for task in (held, short)]
    assert [(task.status, task.retry_count) for task in done] == [("SUCCESS", 0), ("SUCCESS", 0)]
    # Where processes take long to come up, the held one is handed back once more.
    assert done[0].attempt >= 2
    assert done[1].attempt == 1
    assert worker.terminate() == 0
    lone_system.check_history()


@pytest.mark.parametrize("stop", [_signal_group, _signal_all])
def test_a_server_with_workers_drains_them_once_however_it_is_told(
    lone_system: System, stop: Callable[[Process], None]
) -> None:
    server = lone_system.start_server("--workers", "1", environment=PATIENT)
    client = lone_system.client()
    eventually(client.list_workers)
    tasks = [
        client.create_task(task_type, {"until": "go"}, max_retry=0).task_id
        for task_type in ("hold", "isolated_hold")
    ]
    eventually(lambda: all(lone_system.marks(task) for task in tasks))
    for _ in range(2):
        stop(server)
        _wait_until_it_drains(server)
    lone_system.let_go("go")
    family = _family(server)[1:]
    assert server.popen.wait(60) == 0
    assert not psutil.wait_procs(family, timeout=30)[1]
    lone_system.start_server()
    again = lone_system.client()
    assert [(again.get_task(task).status, again.get_task(task).attempt) for task in tasks] == [
        ("SUCCESS", 1)
    ] * 2
    assert "started again" not in server.output()


def test_server_processes_and_their_workers_are_not_started_again_while_they_stop(
    lone_system: System,
) -> None:
    server = lone_system.start_server("--processes", "2", "--workers", "1", environment=PATIENT)
    client = lone_system.client()
    eventually(client.list_workers)
    task = client.create_task("hold", {"until": "go"}, max_retry=0).task_id
    eventually(lambda: lone_system.marks(task))
    _signal_all(server)
    _wait_until_it_drains(server)
    # Only the worker is left, and who started it.
    eventually(lambda: not any("atm_cli" in _command(one) for one in _family(server)[1:]))
    lone_system.let_go("go")
    assert server.popen.wait(60) == 0
    assert "started again" not in server.output()
    lone_system.start_server()
    assert lone_system.client().get_task(task).status == "SUCCESS"


def _has_workers(client: Client) -> Callable[[], bool]:
    """Whether its server answers and has workers."""

    def look() -> bool:
        try:
            return bool(client.list_workers())
        except Exception:
            return False

    return look


def test_everything_in_one_place_drains_once(lone_system: System, start_process: StartProcess) -> None:
    port = free_port()
    arguments = [sys.executable, "-m", "atm_cli", "up", "--data-dir", str(lone_system.folder / "data")]
    arguments += ["--workers", "1", "--grpc-port", str(port), "--worker-port", str(free_port())]
    environment = {**lone_system.environment, **PATIENT}
    up = start_process(arguments, environment)
    with Client(f"127.0.0.1:{port}") as client:
        eventually(_has_workers(client))
        task = client.create_task("hold", {"until": "go"}, max_retry=0).task_id
    eventually(lambda: lone_system.marks(task))
    for _ in range(2):
        up.popen.terminate()
        _wait_until_it_drains(up)
    lone_system.let_go("go")
    assert up.popen.wait(60) == 0
    up = start_process(arguments, environment)
    with Client(f"127.0.0.1:{port}") as client:
        eventually(_has_workers(client))
        assert client.get_task(task).status == "SUCCESS"
    up.terminate()


def test_what_handlers_start_stops_when_they_ask_it_to(lone_system: System) -> None:
    lone_system.start_server()
    lone_system.start_worker()
    client = lone_system.client()
    stopped = {"forked": str(-signal.SIGTERM), "program": str(-signal.SIGTERM)}
    for task_type in ("stop_children", "isolated_stop_children"):
        done = client.wait_for_task(client.create_task(task_type).task_id, 60)
        assert done.result == stopped, done
    # The worker was not told.
    assert client.wait_for_task(client.create_task("echo").task_id, 60).status == "SUCCESS"


def test_an_isolated_handler_may_have_signals_of_its_own(lone_system: System) -> None:
    lone_system.start_server()
    lone_system.start_worker()
    client = lone_system.client()
    task = client.create_task("isolated_own_signals").task_id
    pid = int(eventually(lambda: lone_system.marks(task))[0].split()[1])
    os.kill(pid, signal.SIGTERM)
    assert client.wait_for_task(task, 60).result == {"told": "true"}


@pytest.mark.parametrize(
    ("task_type", "payload"), [("hang", {"until": "never"}), ("async_hang", {"until": "never"})]
)
def test_a_handler_that_does_not_stop_does_not_hold_up_its_master(
    lone_system: System, task_type: str, payload: dict[str, str]
) -> None:
    lone_system.start_server()
    worker = lone_system.start_worker(environment=SHORT)
    client = lone_system.client()
    task = client.create_task(task_type, payload).task_id
    eventually(lambda: lone_system.marks(task))
    assert worker.terminate() == 0
    found = client.get_task(task)
    assert (found.status, found.retry_count, found.attempt) == ("PENDING", 0, 1)
    lone_system.check_history()


def test_what_a_handler_has_left_running_does_not_hold_up_its_master(lone_system: System) -> None:
    lone_system.start_server()
    worker = lone_system.start_worker(environment=SHORT)
    client = lone_system.client()
    done = client.wait_for_task(client.create_task("leave_thread").task_id, 60)
    assert done.status == "SUCCESS"
    assert worker.terminate() == 0


def test_a_handler_that_holds_the_lock_of_python_does_not_hold_up_its_master(lone_system: System) -> None:
    lone_system.start_server()
    worker = lone_system.start_worker(environment=SHORT)
    client = lone_system.client()
    # Far longer than the test waits.
    task = client.create_task("hold_lock", {"seconds": "600"}).task_id
    eventually(lambda: lone_system.marks(task))
    began = time.monotonic()
    worker.popen.terminate()
    # Killed by the process that beats its heart: Dramatiq says so.
    assert worker.popen.wait(60) == 1
    print(f"measured: the master ended after {time.monotonic() - began:.1f} s")
    assert "does not stop: it is killed" in worker.output()
    lone_system.start_worker()
    done = client.wait_for_task(task, 60)
    assert (done.status, done.retry_count, done.attempt) == ("SUCCESS", 0, 2)
    lone_system.check_history()


@pytest.fixture
def quits() -> Iterator[None]:
    """What is started heeds SIGQUIT, also where the tests are a background job, which ignores it."""
    before = signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGQUIT, before)


@pytest.mark.usefixtures("quits")
def test_whoever_cannot_wait_kills_a_worker_and_its_tasks_run_again(lone_system: System) -> None:
    # So long that the worker is not missed: the process that beats its heart outlives the signal.
    long = {"ATM_WORKER_LEASE_SECONDS": "600", **PATIENT}
    lone_system.start_server(environment=long)
    worker = lone_system.start_worker(environment=long)
    client = lone_system.client()
    task = client.create_task("hold", {"until": "go"}).task_id
    eventually(lambda: lone_system.marks(task))
    # What Ctrl-\\ in a terminal does.
    os.killpg(worker.pid, signal.SIGQUIT)
    assert worker.popen.wait(60) == -signal.SIGQUIT
    lone_system.start_worker(environment=long)
    eventually(lambda: len(lone_system.marks(task)) == 2)
    lone_system.let_go("go")
    assert client.wait_for_task(task, 60).retry_count == 1
    lone_system.check_history()
