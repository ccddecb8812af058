"""Roles are run again and again, each in its thread: through failures, outages and until they are stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from atm import background
from atm.background import Runner
from atm.errors import UnavailableError


class _Role:
    """Runs a list of things, then counts; `done` is set after the list."""

    def __init__(self, *steps: Callable[[], bool], interval: float = 0.001) -> None:
        self.interval = interval
        self._steps = list(steps)
        self.runs = 0
        self.done = threading.Event()
        self.threads: set[str] = set()

    def run_once(self) -> bool:
        self.threads.add(threading.current_thread().name)
        self.runs += 1
        if not self._steps:
            self.done.set()
            return False
        return self._steps.pop(0)()


def _fails() -> bool:
    raise ZeroDivisionError("a defect")


def _is_away() -> bool:
    raise UnavailableError("SQL is away")


def _works() -> bool:
    return False


@pytest.fixture(autouse=True)
def short_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "REST_SECONDS", 0.001)


@pytest.fixture
def run() -> Iterator[Callable[..., Runner]]:
    runners = []

    def start(*roles: _Role, gate: Callable[[], bool] = lambda: True) -> Runner:
        runner = Runner(roles, gate)
        runners.append(runner)
        runner.start()
        return runner

    yield start
    for runner in runners:
        runner.stop()


def _levels(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [record.levelno for record in caplog.records if record.name == "atm.background"]


def test_a_role_that_fails_is_logged_and_goes_on(
    run: Callable[..., Runner], caplog: pytest.LogCaptureFixture
) -> None:
    role = _Role(_fails, _works, _fails)
    run(role)
    assert role.done.wait(60)
    assert _levels(caplog) == [logging.ERROR] * 2
    assert "a defect" in caplog.text


def test_an_outage_is_one_warning_however_long_it_lasts(
    run: Callable[..., Runner], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    role = _Role(_is_away, _is_away, _is_away, _works, _is_away, _is_away)
    run(role)
    assert role.done.wait(60)
    assert _levels(caplog) == [logging.WARNING] * 2, "one for each outage"


def test_a_role_delays_no_other(run: Callable[..., Runner]) -> None:
    go_on = threading.Event()
    slow, quick = _Role(lambda: go_on.wait(60)), _Role(_works, _works)
    run(slow, quick)
    assert quick.done.wait(60)
    assert slow.runs == 1
    go_on.set()
    assert slow.done.wait(60)
    assert slow.threads == quick.threads == {"atm-role"}


def test_what_has_more_to_do_is_run_again_at_once(run: Callable[..., Runner]) -> None:
    role = _Role(*[lambda: True] * 50, interval=0)
    run(role)
    assert role.done.wait(60)


def test_what_has_more_to_do_does_not_wait_for_its_interval() -> None:
    role = _Role(*[lambda: True] * 50, interval=0.0)
    runner = Runner([role])

    def once_then_never() -> bool:
        role.interval = 600
        return True

    role._steps.insert(0, once_then_never)
    runner.start()
    assert role.done.wait(60)
    runner.stop()


def test_nothing_is_begun_while_the_gate_is_closed(run: Callable[..., Runner]) -> None:
    is_open, asked = False, threading.Semaphore(0)

    def gate() -> bool:
        asked.release()
        return is_open

    role = _Role(_works)
    run(role, gate=gate)
    for _ in range(5):
        assert asked.acquire(timeout=60)
    assert not role.runs
    is_open = True
    assert role.done.wait(60)


def test_stopping_ends_the_threads_whatever_they_wait_for() -> None:
    waiting, busy = _Role(interval=600), _Role(interval=0)
    runner = Runner([waiting, busy])
    runner.start()
    assert busy.done.wait(60)
    runner.stop()
    assert not [thread for thread in runner._threads if thread.is_alive()]
    runs = busy.runs
    runner.stop()
    assert (waiting.runs, busy.runs) == (0, runs)


def test_stopping_does_not_wait_for_more_to_do() -> None:
    endless = _Role(interval=0)
    begun = threading.Event()

    def more() -> bool:
        begun.set()
        endless._steps.append(more)
        return True

    endless._steps.append(more)
    runner = Runner([endless])
    runner.start()
    assert begun.wait(60)
    runner.stop()
    assert not runner._threads[0].is_alive()


def test_a_role_may_stop_them_all_itself() -> None:
    stopped = threading.Event()

    def stop() -> bool:
        runner.stop()
        stopped.set()
        return False

    role = _Role(stop)
    runner = Runner([role, _Role(interval=600)])
    runner.start()
    assert stopped.wait(60)
    runner._threads[0].join(60)
    assert not any(thread.is_alive() for thread in runner._threads)


def test_what_was_not_started_can_be_stopped() -> None:
    Runner([_Role()]).stop()
