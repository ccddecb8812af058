"""The supervisor starts again what ends, and not what can never run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_system import eventually

from atm.processes import UNUSABLE_SETTINGS
from atm.supervisor import supervisor as supervisor_module
from atm.supervisor.supervisor import Command, Supervisor

#: Notes each start in a file, and ends with the next of the codes, with the last one again and again.
_ENDS = """
import sys
path, *codes = sys.argv[1:]
with open(path, "a+") as file:
    file.seek(0)
    started = len(file.read())
    file.write(".")
sys.exit(int(codes[min(started, len(codes) - 1)]))
"""


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(supervisor_module, "FIRST_BACKOFF_SECONDS", 0.0)
    return


def _supervise(starts: Path, *codes: int) -> tuple[Supervisor, list[str]]:
    told: list[str] = []
    command = Command("worker 1", [sys.executable, "-c", _ENDS, str(starts), *map(str, codes)])
    made = Supervisor([command], on_refusal=lambda: told.append(made.refusal))
    return made, told


def test_a_command_that_refuses_its_settings_at_once_is_told_once_and_not_started_again(
    tmp_path: Path,
) -> None:
    starts = tmp_path / "starts"
    supervisor, told = _supervise(starts, UNUSABLE_SETTINGS)
    supervisor.start()
    eventually(lambda: told)
    supervisor.stop()
    assert told == ["worker 1 cannot run with these settings; it says why above"]
    assert starts.read_text() == "."


def test_a_command_that_ran_before_is_tried_again_even_when_it_refuses(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    supervisor, told = _supervise(starts, 1, UNUSABLE_SETTINGS)
    supervisor.start()
    eventually(lambda: starts.exists() and len(starts.read_text()) >= 3)
    supervisor.stop()
    assert told == []
