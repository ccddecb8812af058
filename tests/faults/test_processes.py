"""Processes are stopped and killed for real: tasks go on elsewhere, and nothing is left behind."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import psutil
import pytest
from fix_system import Process, StartProcess, System, eventually, health, wait_until_serving
from grpc_health.v1 import health_pb2
from ports import free_port

from atm.client import Client
from atm.errors import UnavailableError

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def test_a_task_of_a_killed_worker_runs_again_elsewhere(new_system: System) -> None:
    new_system.start_server()
    new_system.start_worker()
    new_system.start_worker()
    client = new_system.client()
    task = client.create_task("hold", {"until": "go"})
    eventually(lambda: new_system.marks(task.task_id))
    holder = client.get_task(task.task_id).worker_id
    pid = next(worker.pid for worker in client.list_workers() if worker.worker_id == holder)
    psutil.Process(pid).kill()
    # How soon: `python -m chaos` reports it.
    eventually(lambda: len(new_system.marks(task.task_id)) == 2, what="it is not started again")
    new_system.let_go("go")
    done = client.wait_for_task(task.task_id, 30)
    assert (done.status, done.retry_count, done.attempt) == ("SUCCESS", 1, 2)
    assert done.worker_id != holder
    assert any("was lost" in row.message for row in client.get_task_logs(task.task_id))
    new_system.check_history()


def test_a_task_that_kills_its_worker_ends_failed(new_system: System) -> None:
    new_system.start_server("--workers", "1", environment={"ATM_WORKER_LEASE_SECONDS": "4"})
    client = new_system.client()
    eventually(client.list_workers)
    done = client.wait_for_task(client.create_task("die").task_id, 60)
    assert (done.status, done.error_reason, done.attempt) == ("FAILED", "WORKER_LOST", 2)
    new_system.check_history()


def test_a_stopping_worker_hands_back_what_it_cannot_finish(new_system: System) -> None:
    new_system.start_server()
    worker = new_system.start_worker(environment={"ATM_DRAIN_SECONDS": "0.3"})
    client = new_system.client()
    task = client.create_task("hold", {"until": "go"})
    eventually(lambda: new_system.marks(task.task_id))
    assert worker.terminate() == 0
    new_system.let_go("go")
    new_system.start_worker()
    done = client.wait_for_task(task.task_id, 30)
    assert (done.status, done.retry_count, done.attempt) == ("SUCCESS", 0, 2)
    new_system.check_history()


def test_a_stopping_worker_finishes_what_is_short(new_system: System) -> None:
    new_system.start_server()
    worker = new_system.start_worker()
    client = new_system.client()
    task = client.create_task("slow", {"seconds": "1"})
    eventually(lambda: new_system.marks(task.task_id))
    assert worker.terminate() == 0
    assert client.get_task(task.task_id).status == "SUCCESS"


def test_workers_leave_when_the_process_that_started_them_is_killed(new_system: System) -> None:
    new_system.start_server()
    worker = new_system.start_worker(processes=2)
    children = psutil.Process(worker.pid).children(recursive=True)
    assert len(children) >= 2
    worker.popen.kill()
    worker.popen.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive


def test_a_server_finishes_and_leaves_with_its_workers(new_system: System) -> None:
    server = new_system.start_server("--workers", "2")
    client = new_system.client()
    eventually(lambda: len(client.list_workers()) == 2)
    children = psutil.Process(server.pid).children(recursive=True)
    assert server.terminate() == 0
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive


def test_server_processes_share_a_port_and_are_replaced(new_system: System) -> None:
    server = new_system.start_server("--processes", "2", "--id", "many", "--workers", "1")
    client = new_system.client()

    def names() -> set[str]:
        return {server.server_id for server in client.list_servers() if server.status == "RUNNING"}

    eventually(lambda: names() == {"many/1", "many/2"})
    eventually(client.list_workers)
    for _ in range(10):
        # A connection of its own each: the kernel spreads them.
        with Client(new_system.address) as each:
            assert each.wait_for_task(each.create_task("echo").task_id, 30).status == "SUCCESS"
    first = next(server for server in client.list_servers() if server.server_id == "many/1")
    psutil.Process(first.pid).kill()

    def replaced() -> bool:
        try:
            found = {
                s.pid for s in client.list_servers() if s.server_id == "many/1" and s.status == "RUNNING"
            }
        except UnavailableError:
            return False
        return bool(found - {first.pid})

    eventually(replaced)
    family = psutil.Process(server.pid).children(recursive=True)
    assert server.terminate() == 0
    assert not psutil.wait_procs(family, timeout=30)[1]
    new_system.check_history()


def test_processes_do_not_share_a_port_with_a_stranger(
    new_system: System, start_process: StartProcess
) -> None:
    first = new_system.start_server()
    port = first.address.rpartition(":")[2]
    arguments = [sys.executable, "-m", "atm_cli", "server", "--processes", "2", "--grpc-port", port]
    second = start_process(arguments, new_system.environment)
    assert second.popen.wait(60) == 2
    assert f"--grpc-port: 127.0.0.1:{port} cannot be listened on" in second.output()


def _up(start_process: StartProcess, folder: Path, port: int) -> Process:
    arguments = [sys.executable, "-m", "atm_cli", "up", "--data-dir", str(folder / "data"), "--workers", "1"]
    arguments += ["--grpc-port", str(port), "--worker-port", str(free_port())]
    process = start_process(arguments, {"ATM_HOST": "127.0.0.1"})
    wait_until_serving(f"127.0.0.1:{port}", process)
    return process


def _family(process: Process) -> list[psutil.Process]:
    return [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]


def test_what_is_in_the_folder_survives_a_restart(tmp_path: Path, start_process: StartProcess) -> None:
    port = free_port()
    first = _up(start_process, tmp_path, port)
    with Client(f"127.0.0.1:{port}") as client:
        done = client.wait_for_task(client.create_task("http_request", {"url": "nonsense"}).task_id, 30)
        waiting = client.create_task("example_task", delay=3)
        eventually(client.list_workers)
    family = _family(first)
    first.popen.send_signal(signal.SIGINT)
    assert first.popen.wait(60) == 0
    assert not psutil.wait_procs(family[1:], timeout=30)[1]
    second = _up(start_process, tmp_path, port)
    with Client(f"127.0.0.1:{port}") as client:
        assert client.get_task(done.task_id).status == "FAILED"
        assert client.wait_for_task(waiting.task_id, 30).status == "SUCCESS"
    second.terminate()


def test_nothing_is_left_when_atm_up_is_killed(tmp_path: Path, start_process: StartProcess) -> None:
    port = free_port()
    process = _up(start_process, tmp_path, port)
    with Client(f"127.0.0.1:{port}") as client:
        eventually(client.list_workers)
    family = _family(process)
    assert len(family) >= 4
    process.popen.kill()
    process.popen.wait()
    _, alive = psutil.wait_procs(family[1:], timeout=30)
    assert not alive


def test_two_of_them_do_not_share_a_folder(tmp_path: Path, start_process: StartProcess) -> None:
    first = _up(start_process, tmp_path, free_port())
    arguments = [sys.executable, "-m", "atm_cli", "up", "--data-dir", str(tmp_path / "data")]
    second = start_process([*arguments, "--grpc-port", "0"])
    assert second.popen.wait(60) == 2
    assert "in use by another" in second.output()
    assert "Traceback" not in second.output()
    first.terminate()


@pytest.mark.parametrize("dsn", ["root:pw@tcp(127.0.0.1:1)/x", "sqlite:////no/such/folder/x.db"])
def test_a_server_without_its_database_says_so_in_one_line(start_process: StartProcess, dsn: str) -> None:
    server = start_process([sys.executable, "-m", "atm_cli", "server", "--mysql", dsn])
    assert server.popen.wait(60) == 6
    lines = server.output().strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: the database at")


def test_redis_may_be_away_and_may_forget(new_system: System, own_valkey: object) -> None:
    from fix_valkey import Valkey

    assert isinstance(own_valkey, Valkey)
    new_system.environment["REDIS_ADDR"] = own_valkey.address
    new_system.start_server()
    new_system.start_worker()
    client = new_system.client()
    own_valkey.stop()
    ids = [client.create_task("echo").task_id for _ in range(20)]
    eventually(lambda: health(new_system.address, "redis") == NOT_SERVING)
    own_valkey.start()
    assert {client.wait_for_task(task_id, 30).status for task_id in ids} == {"SUCCESS"}
    new_system.check_history()
