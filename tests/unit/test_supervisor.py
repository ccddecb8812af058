"""A supervisor starts again what ends, and not what can never run, nor anything while it stops."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fix_system import eventually

from atm.processes import EXIT_RECYCLED, EXIT_STUCK, UNUSABLE_SETTINGS
from atm.supervisor import supervisor as module
from atm.supervisor.supervisor import FIRST_BACKOFF_SECONDS, Command, Supervisor


class FakeProcess:
    """A process that has ended with `code`, if that is set."""

    def __init__(self, arguments: list[str]) -> None:
        self.arguments = arguments
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[FakeProcess]:
    made: list[FakeProcess] = []

    def start(arguments: list[str], **_: Any) -> FakeProcess:
        made.append(FakeProcess(arguments))
        return made[-1]

    monkeypatch.setattr(module, "subprocess", SimpleNamespace(Popen=start, DEVNULL=None))
    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    made = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


@pytest.fixture
def supervisor(started: list[FakeProcess], clock: SimpleNamespace) -> Supervisor:
    made = Supervisor([Command("worker 1", ["work"])])
    made.run_once()
    return made


def test_what_has_done_its_share_is_started_at_once_and_without_alarm(
    supervisor: Supervisor, started: list[FakeProcess], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for number in range(2, 12):
        started[-1].code = EXIT_RECYCLED
        supervisor.run_once()
        assert len(started) == number
    assert {record.levelno for record in caplog.records} == {logging.INFO}


@pytest.mark.parametrize("code", [0, 1, EXIT_STUCK, -9])
def test_what_ends_otherwise_is_started_after_a_wait_that_grows(
    supervisor: Supervisor,
    started: list[FakeProcess],
    clock: SimpleNamespace,
    caplog: pytest.LogCaptureFixture,
    code: int,
) -> None:
    wait = FIRST_BACKOFF_SECONDS
    for number in range(1, 4):
        started[-1].code = code
        supervisor.run_once()
        clock.now += wait - 0.01
        supervisor.run_once()
        assert len(started) == number
        clock.now += 0.01
        supervisor.run_once()
        assert len(started) == number + 1
        wait *= 2
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_each_is_told_whose_child_it_is(supervisor: Supervisor, started: list[FakeProcess]) -> None:
    assert started[0].arguments[3:] == ["atm.supervisor.leash", str(os.getpid()), "work"]


def test_one_that_is_held_starts_nothing_again(
    supervisor: Supervisor, started: list[FakeProcess], clock: SimpleNamespace
) -> None:
    supervisor.hold()
    started[0].code = 0
    for _ in range(3):
        supervisor.run_once()
        clock.now += 100
    assert len(started) == 1


# -- what can never run --------------------------------------------------------

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


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "FIRST_BACKOFF_SECONDS", 0.0)
    return


def _supervise(starts: Path, *codes: int) -> tuple[Supervisor, list[str]]:
    told: list[str] = []
    command = Command("worker 1", [sys.executable, "-c", _ENDS, str(starts), *map(str, codes)])
    made = Supervisor([command], on_refusal=lambda: told.append(made.refusal))
    return made, told


@pytest.mark.usefixtures("no_backoff")
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


@pytest.mark.usefixtures("no_backoff")
def test_a_command_that_ran_before_is_tried_again_even_when_it_refuses(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    supervisor, told = _supervise(starts, 1, UNUSABLE_SETTINGS)
    supervisor.start()
    eventually(lambda: starts.exists() and len(starts.read_text()) >= 3)
    supervisor.stop()
    assert told == []
