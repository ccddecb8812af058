"""A worker does not outlive its master, at whatever moment of its life that is killed."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from fix_system import Process, StartProcess, System, eventually

#: Far longer than the test waits.
_PATIENT = {"ATM_DRAIN_SECONDS": "600"}


def _children(process: Process) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def _kill_master(worker: Process) -> list[psutil.Process]:
    """Kills the master alone; what it leaves behind."""
    left = _children(worker)
    worker.popen.kill()
    worker.popen.wait()
    return left


def _all_end(left: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(left, timeout=60)[1]


@pytest.mark.parametrize("how", [(), ("--use-spawn",)])
def test_workers_whose_handlers_are_being_imported_go_with_their_master(
    lone_system: System, how: tuple[str, ...]
) -> None:
    slow = {"ATM_HANDLERS": "slow_import_handlers"}
    program = [sys.executable, "-m", "dramatiq", *how]
    worker = lone_system.start_worker(processes=2, environment=slow, wait=False, program=program)
    eventually(lambda: len(list(lone_system.folder.glob("importing-*"))) == 2)
    assert _all_end(_kill_master(worker))


def test_workers_that_come_to_themselves_after_their_master_died_end(lone_system: System) -> None:
    # Stopped before they have looked at anything: forked, and nothing of ATM imported.
    worker = lone_system.start_worker(processes=2, wait=False)
    left = eventually(lambda: _children(worker))
    for one in left:
        one.suspend()
    left = _kill_master(worker)
    for one in left:
        one.resume()
    assert _all_end(left)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections, and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for one in taken:
            one.close()


def test_workers_that_wait_for_their_database_go_with_their_master(
    lone_system: System, silent_port: int
) -> None:
    nowhere = {"MYSQL_DSN": f"root:x@tcp(127.0.0.1:{silent_port})/atm", "ATM_WORKER_LEASE_SECONDS": "4"}
    worker = lone_system.start_worker(environment=nowhere, wait=False)
    # The worker, and the process that beats its heart: from then on it connects.
    eventually(lambda: len(_children(worker)) == 2)
    assert _all_end(_kill_master(worker))


def test_a_worker_goes_with_its_master_while_a_handler_holds_the_lock_of_python(lone_system: System) -> None:
    lone_system.start_server()
    worker = lone_system.start_worker(environment=_PATIENT)
    client = lone_system.client()
    task = client.create_task("hold_lock", {"seconds": "600"}).task_id
    eventually(lambda: lone_system.marks(task))
    assert _all_end(_kill_master(worker))
    lone_system.start_worker()
    done = client.wait_for_task(task, 60)
    assert (done.status, done.retry_count, done.attempt) == ("SUCCESS", 0, 2)


def test_what_a_supervisor_starts_does_not_outlive_one_that_died_before(start_process: StartProcess) -> None:
    # No process has this id.
    died = str(2**22 - 1)
    command = start_process([sys.executable, "-m", "atm.supervisor.leash", died, "sleep", "600"])
    assert command.popen.wait(60) != 0


# -- the process that beats a worker's heart -----------------------------------


def _heart_of(pid: int) -> psutil.Process | None:
    found = [child for child in psutil.Process(pid).children() if child.status() != psutil.STATUS_ZOMBIE]
    return found[0] if found else None


def test_the_process_that_beats_the_heart_is_started_again_and_does_its_work(lone_system: System) -> None:
    # So long that nothing is missed: who ends the attempts is the new process.
    long = {"ATM_WORKER_LEASE_SECONDS": "600"}
    lone_system.start_server(environment=long)
    lone_system.start_worker(environment=long)
    client = lone_system.client()
    pid = client.list_workers()[0].pid
    for _ in range(2):
        old = eventually(lambda: _heart_of(pid))
        old.kill()
        # A program of its own: not forked by a process that has threads.
        eventually(lambda old=old: (new := _heart_of(pid)) and new.pid != old.pid and len(new.cmdline()) > 4)
    held = client.create_task("hold", {"until": "go"}).task_id
    eventually(lambda: lone_system.marks(held))
    # It has told that it is ready when it takes no notice of a signal.
    heart = eventually(lambda: _heart_of(pid))
    eventually(lambda: _takes_no_notice(heart))
    os.kill(pid, signal.SIGKILL)
    lone_system.start_worker(environment=long)
    eventually(lambda: len(lone_system.marks(held)) == 2)
    lone_system.let_go("go")
    done = client.wait_for_task(held, 60)
    assert (done.status, done.retry_count) == ("SUCCESS", 1)
    lone_system.check_history()


def _takes_no_notice(process: psutil.Process) -> bool:
    """Whether SIGTERM is caught by the process (it does nothing then), and not blocked any more."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    lines = dict(line.split(":", 1) for line in status.splitlines())
    bit = 1 << (signal.SIGTERM - 1)
    return bool(int(lines["SigCgt"], 16) & bit) and not int(lines["SigBlk"], 16) & bit


def test_a_worker_that_is_killed_right_after_the_process_that_beats_its_heart_is_missed(
    lone_system: System,
) -> None:
    lease = {"ATM_WORKER_LEASE_SECONDS": "2", "ATM_HEARTBEAT_SECONDS": "0.5"}
    lone_system.start_server(environment=lease)
    lone_system.start_worker(environment=lease)
    client = lone_system.client()
    held = client.create_task("hold", {"until": "go"}).task_id
    eventually(lambda: lone_system.marks(held))
    pid = client.list_workers()[0].pid
    heart = eventually(lambda: _heart_of(pid))
    heart.kill()
    os.kill(pid, signal.SIGKILL)
    lone_system.start_worker(environment=lease)
    eventually(lambda: len(lone_system.marks(held)) == 2)
    lone_system.let_go("go")
    assert client.wait_for_task(held, 60).retry_count == 1
    lone_system.check_history()
