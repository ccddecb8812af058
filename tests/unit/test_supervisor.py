"""A supervisor starts again what ends: later each time, at once what shall end, nothing while it stops."""

from __future__ import annotations

import logging
import os
from types import SimpleNamespace
from typing import Any

import pytest

from atm.processes import EXIT_RECYCLED, EXIT_STUCK
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
    assert started[0].arguments[2:] == ["atm.supervisor.leash", str(os.getpid()), "work"]


def test_one_that_is_held_starts_nothing_again(
    supervisor: Supervisor, started: list[FakeProcess], clock: SimpleNamespace
) -> None:
    supervisor.hold()
    started[0].code = 0
    for _ in range(3):
        supervisor.run_once()
        clock.now += 100
    assert len(started) == 1
