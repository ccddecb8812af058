"""The end of what runs in a worker that stops: it has its time, is told, and is handed back."""

from __future__ import annotations

import threading

import pytest
from fake_worker import AWAY, Clock, FakeWorker

from atm.service.outcomes import HandedBack
from atm.worker import attempt as attempt_module
from atm.worker import drain as module
from atm.worker.attempt import Attempt, State
from atm.worker.drain import STOP_SECONDS, Drain
from atm.worker.interruption import Interruption, Kind


class _Stopped(threading.Event):
    """Not set; who waits for it lets the time pass, and `then` happen."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.then = lambda: None

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.now += timeout or 0
        self.then()
        return self.is_set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock.of(monkeypatch, module, attempt_module)


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker(waits=True)


@pytest.fixture
def stopped(clock: Clock) -> _Stopped:
    return _Stopped(clock)


@pytest.fixture
def hurried() -> list[float]:
    return []


@pytest.fixture
def drain(worker: FakeWorker, stopped: _Stopped, clock: Clock, hurried: list[float]) -> Drain:
    return Drain(worker.attempts, worker.completer, stopped, lambda: hurried.append(clock.now))


def _end(worker: FakeWorker, attempt: Attempt) -> None:
    worker.attempts.step(attempt, State.ENDING)
    worker.attempts.step(attempt, State.STORED)


def test_what_ends_in_time_is_not_told(
    worker: FakeWorker, drain: Drain, stopped: _Stopped, clock: Clock, hurried: list[float]
) -> None:
    attempt, began = worker.running(), clock.now
    stopped.then = lambda: _end(worker, attempt) if clock.now - began >= 5 else None
    assert drain.run(30)
    assert clock.now - began == pytest.approx(5, abs=0.1)
    assert attempt.interruption is None
    assert len(hurried) == 1


def test_what_ends_when_it_is_told_is_not_handed_back_here(
    worker: FakeWorker, drain: Drain, clock: Clock
) -> None:
    attempt, began = worker.running(), clock.now

    class Handle:
        def press(self, interruption: Interruption, elapsed: float) -> None:
            assert interruption.kind is Kind.DRAIN
            _end(worker, attempt)

    attempt.handle = Handle()
    assert drain.run(3)
    assert clock.now - began == pytest.approx(3, abs=0.1)
    assert not worker.service.finished


def test_what_does_not_end_is_handed_back_and_its_thread_is_not_free(
    worker: FakeWorker, drain: Drain, clock: Clock
) -> None:
    attempt, began = worker.running(), clock.now
    assert not drain.run(3)
    assert clock.now - began == pytest.approx(3 + STOP_SECONDS, abs=0.1)
    (end,) = worker.service.finished
    assert end[:2] == attempt.id
    assert isinstance(end.outcome, HandedBack)


def test_nobody_waits_for_what_was_given_up_on_before(worker: FakeWorker, drain: Drain, clock: Clock) -> None:
    attempt, began = worker.running(), clock.now
    attempt.interrupt(Kind.TIMEOUT)
    attempt.given_up = True
    assert not drain.run(30)
    assert clock.now == began
    assert not worker.service.finished


def test_without_sql_it_ends_all_the_same(worker: FakeWorker, drain: Drain) -> None:
    worker.running()
    worker.service.error = AWAY
    assert not drain.run(1)
