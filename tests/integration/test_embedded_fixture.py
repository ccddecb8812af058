"""The fixture atm_server, in a project of its own: it takes the project's tasks, and nothing of it stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

HANDLERS = """
from atm import handler

@handler("greet")
def greet(context, payload):
    return {"text": f"Hello {payload['name']}"}
"""
OVERRIDE = """
import pytest

@pytest.fixture(scope="session")
def atm_handlers():
    return ["greetings"]
"""
TESTS = """
from pathlib import Path

def test_a_task_is_done(atm_server):
    client = atm_server.client
    task = client.wait_for_task(client.create_task("greet", {"name": "Ada"}).task_id, timeout=30)
    assert task.result == {"text": "Hello Ada"}
    Path("address").write_text(atm_server.address)

def test_the_server_is_the_same_for_all(atm_server):
    assert Path("address").read_text() == atm_server.address
    assert atm_server.client.get_statistics().total == 1
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with handlers, their tests, and a place for what is temporary."""
    (tmp_path / "greetings.py").write_text(HANDLERS)
    (tmp_path / "test_greetings.py").write_text(TESTS)
    (tmp_path / "tmp").mkdir()
    return tmp_path


def run_pytest(project: Path, settings: str) -> subprocess.CompletedProcess[str]:
    """pytest, in the project's folder, with these settings."""
    (project / "pytest.ini").write_text(f"[pytest]\n{settings}\n")
    arguments = ["-m", "pytest", "-p", "no:asyncio", "-p", "no:cacheprovider", "-W", "error"]
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env={**os.environ, "TMPDIR": str(project / "tmp")},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def left(project: Path) -> list[str]:
    """Files and processes of an installation that are still there."""
    files = [path.name for path in (project / "tmp").glob("atm-*")]
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if str(project / "tmp") in command:
            found.append(command)
    return files + found


@pytest.mark.parametrize("how", ["setting", "fixture"])
def test_a_project_names_its_handlers_and_gets_a_server_that_runs_them(project: Path, how: str) -> None:
    settings = "atm_handlers = greetings"
    if how == "fixture":
        settings = ""
        (project / "conftest.py").write_text(OVERRIDE)
    outcome = run_pytest(project, settings)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "2 passed" in outcome.stdout
    assert left(project) == []


def test_a_module_that_cannot_be_imported_is_named_at_once(project: Path) -> None:
    outcome = run_pytest(project, "atm_handlers = greeting")
    assert outcome.returncode == 1
    assert "there is no module 'greeting' on the Python path" in outcome.stdout
    assert left(project) == []


def test_a_worker_that_does_not_come_up_is_told_with_the_servers_log(project: Path) -> None:
    # It can be imported in the tests' process, and not in the worker's.
    with (project / "greetings.py").open("a") as module:
        module.write("import sys\nif 'pytest' not in sys.modules:\n    raise OSError('no disk')\n")
    outcome = run_pytest(project, "atm_handlers = greetings")
    assert outcome.returncode == 1
    assert "no disk" in outcome.stdout, outcome.stdout
    assert left(project) == []
