"""Whatever handlers print, and however much at once: it arrives, and the worker goes on speaking."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from fix_system import Process, System, eventually

from atm.worker.log_buffer import MAX_LINES

#: The database has no part in it.
pytestmark = pytest.mark.parametrize("new_system", ["sqlite"], indirect=True)
HANDLERS = {"ATM_HANDLERS": "printing_handlers,sample_handlers"}


def _speaks(system: System, worker: Process) -> None:
    """Fails unless the worker's log goes on."""
    client = system.client()
    before = worker.log.stat().st_size
    task_id = client.create_task("talk").task_id
    client.wait_for_task(task_id, 60)
    eventually(lambda: b"hello there" in worker.log.read_bytes()[before:], what="the worker's log is silent")


def test_lines_of_a_megabyte_from_many_threads_come_out_whole_and_the_log_goes_on(new_system: System) -> None:
    new_system.start_server()
    worker = new_system.start_worker(threads=4, environment=HANDLERS)
    client = new_system.client()
    tasks = [client.create_task("print_much", {"letter": letter, "times": 2}) for letter in "abcd"]
    for task in tasks:
        assert client.wait_for_task(task.task_id, 60).status == "SUCCESS"
    _speaks(new_system, worker)
    long = [line for line in worker.output().splitlines() if len(line) >= 1_000_000]
    letters = Counter(line[-1_000_000:] for line in long)
    # Printed, as bytes and logged, twice each.
    assert letters == {letter * 1_000_000: 6 for letter in "abcdABCD"}
    assert "imported " + "i" * 100_000 in worker.output().splitlines()
    new_system.check_history()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii:strict", "latin-1:strict"])
@pytest.mark.parametrize("task_type", ["print_everything", "print_everything_isolated"])
def test_a_handler_prints_in_every_way_under_every_encoding(
    new_system: System, encoding: str, task_type: str
) -> None:
    new_system.start_server()
    plain = {"PYTHONIOENCODING": encoding, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    worker = new_system.start_worker(environment={**HANDLERS, **plain})
    client = new_system.client()
    task = client.wait_for_task(client.create_task(task_type).task_id, 60)
    assert (task.status, task.result) == ("SUCCESS", {"result": "printed"})
    _speaks(new_system, worker)
    output = worker.output()
    # Past Dramatiq's pipe: such lines may come in the middle of one that the main process writes.
    for line, times in (("by C, on 1", 1), ("by C, on 2", 1), ("by a child", 2), ("into the stream", 1)):
        assert output.count(f"{line}\n") == times
        output = output.replace(f"{line}\n", "")
    said = output.splitlines()
    assert {"on stderr", "x" * 100_000} <= set(said)
    assert any(line.startswith("\\ud800 ") for line in said)
    assert any(line.startswith("unfinished ") for line in said)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("task_type", ["print_everything", "print_everything_isolated"])
def test_a_worker_with_standard_streams_closed_runs_handlers_that_print(
    new_system: System, tmp_path: Path, closed: str, task_type: str
) -> None:
    new_system.start_server()
    shell = tmp_path / "python"
    shell.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@" {closed}\n')
    shell.chmod(0o755)
    worker = new_system.start_worker(environment=HANDLERS, program=[str(shell), "-m", "dramatiq"])
    client = new_system.client()
    for _ in range(3):
        task = client.wait_for_task(client.create_task(task_type).task_id, 60)
        assert (task.status, task.result) == ("SUCCESS", {"result": "printed"})
    assert worker.terminate() == 0
    new_system.check_history()


def test_a_handler_that_closes_the_streams_silences_nobody(new_system: System) -> None:
    new_system.start_server()
    worker = new_system.start_worker(environment=HANDLERS)
    client = new_system.client()
    assert client.wait_for_task(client.create_task("close_stdout").task_id, 60).status == "SUCCESS"
    _speaks(new_system, worker)


# What an isolated handler logs is in the task's history only.
@pytest.mark.parametrize(("task_type", "heard"), [("log_much", MAX_LINES - 1), ("log_much_isolated", 0)])
def test_what_an_attempt_logs_beyond_its_bound_is_neither_in_its_history_nor_in_the_log_of_its_worker(
    new_system: System, task_type: str, heard: int
) -> None:
    new_system.start_server()
    worker = new_system.start_worker(environment=HANDLERS)
    client = new_system.client()
    task = client.create_task(task_type, {"times": str(3 * MAX_LINES)})
    assert client.wait_for_task(task.task_id, 60).status == "SUCCESS"
    _speaks(new_system, worker)
    lines = [row.message for row in client.get_task_logs(task.task_id) if row.log_type == "INFO"]
    assert lines[:-1] == [f"WARNING: noise {number}" for number in range(MAX_LINES - 1)]
    assert lines[-1].startswith("more than")
    output = worker.output()
    assert output.count("noise ") == heard
    assert output.count("logged more than is kept") == 1
