"""BatchCreateTasks: all or none, in one transaction, once per request id; and from a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fix_system import System

from atm.client import Client
from atm.errors import InvalidArgumentError, PreconditionError, RequestReusedError


def _total(client: Client) -> int:
    return client.list_tasks().total


def test_a_thousand_tasks_are_accepted_and_run(system: System, client: Client) -> None:
    made = client.create_tasks([{"task_type": "echo", "payload": {"n": n}} for n in range(1000)], deadline=30)
    assert [task.payload["n"] for task in made] == [str(n) for n in range(1000)]
    assert len({task.task_id for task in made}) == 1000
    assert {client.wait_for_task(task.task_id, 60).status for task in made[::50]} == {"SUCCESS"}


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"task_type": ""}, "tasks[1].task_type"),
        ({"task_type": "echo", "max_retry": -1}, "tasks[1].max_retry"),
        ({"task_type": "echo", "request_id": "twin"}, "tasks[1].request_id"),
    ],
)
def test_one_that_is_wrong_is_named_and_none_is_accepted(
    client: Client, bad: dict[str, object], field: str
) -> None:
    before = _total(client)
    with pytest.raises(InvalidArgumentError) as caught:
        client.create_tasks([{"task_type": "echo", "request_id": "twin"}, bad])
    assert [violation.field for violation in caught.value.violations] == [field]
    assert _total(client) == before


def test_an_unknown_type_among_them_accepts_none(client: Client) -> None:
    before = _total(client)
    with pytest.raises(PreconditionError) as caught:
        client.create_tasks([{"task_type": "echo"}, {"task_type": "ecko"}])
    assert caught.value.reason == "UNKNOWN_TASK_TYPE"
    assert _total(client) == before


@pytest.mark.parametrize("count", [0, 1001])
def test_a_batch_has_from_1_to_1000_tasks(client: Client, count: int) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        client.create_tasks([{"task_type": "echo"}] * count)
    assert caught.value.violations[0].field == "tasks"


def test_a_batch_that_is_sent_again_makes_nothing_new(client: Client) -> None:
    batch = [{"task_type": "echo", "request_id": f"batch-{n}"} for n in range(5)]
    first = client.create_tasks(batch[:3])
    before = _total(client)
    again = client.create_tasks(batch)
    assert [task.task_id for task in again[:3]] == [task.task_id for task in first]
    assert _total(client) == before + 2
    with pytest.raises(RequestReusedError):
        client.create_tasks([{"task_type": "echo"}, {**batch[0], "payload": {"other": "1"}}])
    assert _total(client) == before + 2


def _create_from(system: System, name: str, *flags: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "atm_cli", "task", "create", "--from-file", name, *flags],
        env={**os.environ, "ATM_SERVER": system.address},
        capture_output=True,
        text=True,
        input=stdin,
        check=False,
    )


def test_a_file_of_tasks_is_created_by_the_thousand(system: System, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text(
        "".join(json.dumps({"task_type": "echo", "payload": {"n": n}}) + "\n" for n in range(1500))
    )
    before = _total(client)
    done = _create_from(system, str(file), "-o", "name")
    assert done.returncode == 0, done.stderr
    assert len(set(done.stdout.split())) == 1500
    assert _total(client) == before + 1500
    assert "1500 of 1500 tasks are committed" in done.stderr
    assert _create_from(system, "-", stdin='{"task_type": "echo"}\n\n').returncode == 0


@pytest.mark.parametrize(
    ("lines", "flags", "said"),
    [
        ('{"task_type": "echo"}\n{"task_type": }\n', (), "line 2"),
        ('{"task_type": "echo"}\n[]\n', (), "line 2"),
        ('{"task_type": "echo", "colour": "red"}\n', (), "colour"),
        ('{"payload": {}}\n', (), "task_type"),
        ("", (), "holds no task"),
        ('{"task_type": "echo"}\n', ("--wait",), "--from-file does not go with wait"),
    ],
)
def test_a_file_that_is_wrong_creates_nothing_and_says_where(
    system: System, client: Client, lines: str, flags: tuple[str, ...], said: str
) -> None:
    before = _total(client)
    done = _create_from(system, "-", *flags, stdin=lines)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert _total(client) == before
