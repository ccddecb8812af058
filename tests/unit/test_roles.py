"""The clock of the roles: when each sweeps, and that nothing but the end of the server ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from fix_system import eventually

from atm.background import Runner
from atm.errors import UnavailableError


class _Role:
    """Answers each sweep with the next of `answers`; an exception is raised."""

    interval = 7.0

    def __init__(self, *answers: bool | Exception) -> None:
        self.answers = list(answers)
        self.sweeps = 0

    def run_once(self) -> bool:
        self.sweeps += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class _Time(threading.Event):
    """Passes at once; the server stops after so many waits."""

    def __init__(self, waits: int) -> None:
        super().__init__()
        self.left = waits
        self.waited: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        if not self.left:
            self.set()
            return True
        self.left -= 1
        self.waited.append(timeout)
        return False


def _run(role: _Role, waits: int, gate: Callable[[], bool] = lambda: True) -> list[float | None]:
    """Runs a role in this thread; how long was waited each time."""
    runner, time = Runner([role], gate), _Time(waits)
    runner._stopping = time
    runner._run(role)
    return time.waited


def test_a_role_sweeps_once_an_interval() -> None:
    role = _Role(False, False, False)
    assert _run(role, 3) == [7.0] * 3
    assert role.sweeps == 3


def test_while_there_is_more_it_goes_on_at_once() -> None:
    role = _Role(True, True, False, False)
    assert _run(role, 2) == [7.0] * 2
    assert role.sweeps == 4


def test_who_does_not_lead_does_not_sweep() -> None:
    leads = iter([False, True, False])
    role = _Role(True)
    # There was more to do, but another server does it now.
    assert _run(role, 2, lambda: next(leads)) == [7.0] * 2
    assert role.sweeps == 1


@pytest.mark.parametrize("error", [UnavailableError("no SQL"), ValueError("a defect")], ids=lambda e: str(e))
def test_a_sweep_that_fails_is_told_and_made_again_after_a_while(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    role = _Role(error, False)
    assert _run(role, 3) == [7.0, 1.0, 7.0]
    assert role.sweeps == 2
    assert "_Role" in caplog.text


def test_a_role_that_waits_ends_at_once_and_one_that_sweeps_after_its_sweep() -> None:
    entered, go_on = threading.Event(), threading.Event()

    class Busy:
        interval = 0.0

        def run_once(self) -> bool:
            entered.set()
            assert go_on.wait(60)
            return True

    class Idle:
        interval = 1_000_000.0

        def run_once(self) -> bool:
            raise AssertionError

    runner: Any = Runner([Busy(), Idle()])
    runner.start()
    assert entered.wait(60)
    busy, idle = runner._threads
    stopping = threading.Thread(target=runner.stop)
    stopping.start()
    eventually(lambda: not idle.is_alive())
    assert busy.is_alive()
    go_on.set()
    stopping.join(60)
    eventually(lambda: not busy.is_alive())
