"""A module of handlers that cannot be imported ends whatever runs workers, which say what happened in it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fix_system import PATIENCE_SECONDS, Process, StartProcess, System
from ports import free_port

#: The database has no part in it.
on_sqlite = pytest.mark.parametrize("new_system", ["sqlite"], indirect=True)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One in which the handlers' module exits, as if all were well."""
    (tmp_path / "exits_module.py").write_text("import sys\n\nprint('x' * 100_000)\nsys.exit(0)\n")
    return {"ATM_HANDLERS": "exits_module", "PYTHONPATH": str(tmp_path), "ATM_HOST": "127.0.0.1"}


def _code(process: Process) -> int:
    """Its exit code, when it has said what is wrong."""
    code = process.popen.wait(PATIENCE_SECONDS)
    said = process.output()
    assert "ATM_HANDLERS: exits_module cannot be imported: it exits when it is imported" in said
    assert "exits_module.py, line 4" in said
    # None but that of a line which Dramatiq's master could not log, for it was told to stop as it ended.
    assert said.count("Traceback") == said.count("--- Logging error ---")
    assert 'exits_module.py", line' not in said
    return code


@on_sqlite
def test_dramatiq_ends(new_system: System, environment: dict[str, str]) -> None:
    assert _code(new_system.start_worker(processes=2, environment=environment, wait=False)) == 78


@on_sqlite
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_server_with_workers_ends(new_system: System, environment: dict[str, str], processes: str) -> None:
    flags = ["--workers", "1", "--processes", processes]
    server = new_system.start_server(*flags, environment=environment, wait=False)
    assert _code(server) == 2
    assert "worker 1 cannot run with these settings" in server.output()


def test_atm_up_ends(start_process: StartProcess, environment: dict[str, str], tmp_path: Path) -> None:
    ports = ["--grpc-port", str(free_port()), "--worker-port", str(free_port())]
    arguments = ["-m", "atm_cli", "up", "--data-dir", str(tmp_path / "data"), "--workers", "2", *ports]
    assert _code(start_process([sys.executable, *arguments], environment)) == 2


def test_atm_demo_ends(start_process: StartProcess, environment: dict[str, str]) -> None:
    process = start_process([sys.executable, "-m", "atm_cli", "demo"], {**environment, "ATM_SERVER": ""})
    assert _code(process) == 6
