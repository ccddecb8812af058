"""A standard output that is full, closed or not read any more is one line on stderr, for every command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fix_system import System

COMMANDS = (
    "version",
    "--help",
    "task list",
    "task list -o json",
    "task list -o yaml",
    "task get {id}",
    "task get {id} -o json",
    "task logs {id}",
    "task logs {id} -o jsonl",
    "task wait {id} --timeout 0.1",
    "task cancel {id}",
    "worker list -o json",
    "server list",
    "stats",
    "db status",
)
LOST = {"full": ">/dev/full", "closed": ">&-"}


@pytest.fixture
def served(lone_system: System) -> System:
    lone_system.start_server()
    return lone_system


def _atm(system: System, command: str, redirection: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"{sys.executable} -m atm_cli {command} {redirection}"],
        env={**os.environ, **system.environment, "ATM_SERVER": system.address, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_every_command_says_in_one_line_that_its_output_is_lost(served: System) -> None:
    task_id = served.client().create_task("example_task", delay=3600).task_id
    for command in COMMANDS:
        for lost in LOST.values():
            done = _atm(served, command.format(id=task_id), lost)
            said = done.stderr.splitlines()
            assert done.returncode != 0, command
            assert "Traceback" not in done.stderr, (command, done.stderr)
            assert sum("standard output cannot be written to" in line for line in said) == 1, (command, said)


@pytest.mark.parametrize("lost", [*LOST.values(), "| true"])
def test_what_was_created_is_told_all_the_same(served: System, lost: str) -> None:
    command = "task create example_task --delay 3600 -o json"
    done = _atm(served, command, lost)
    [task] = served.client().list_tasks().tasks
    assert f"created: {task.task_id}" in done.stderr or lost == "| true"
    assert "Traceback" not in done.stderr
