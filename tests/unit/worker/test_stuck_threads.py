"""Threads that are lost to handlers are told of, sparingly, and end their worker when they are many."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fake_worker import Clock, FakeWorker, claimed, task_id
from fix_system import eventually

from atm.processes import EXIT_RECYCLED, EXIT_STUCK, Parent
from atm.worker import attempt as attempt_module
from atm.worker import limits as limits_module
from atm.worker import retirement as retirement_module
from atm.worker import stuck_threads as module
from atm.worker.attempt import Attempt, State
from atm.worker.executors.coroutine import CoroutineExecutor
from atm.worker.executors.thread import ThreadExecutor
from atm.worker.handlers import HandlerSpec
from atm.worker.interruption import Kind
from atm.worker.limits import Limits
from atm.worker.retirement import Retirement
from atm.worker.stuck_threads import (
    FIRST_REPEAT_SECONDS,
    MAX_REPEAT_SECONDS,
    PATIENCE_SECONDS,
    StuckThreads,
)
from atm.worker.whereabouts import where


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock.of(monkeypatch, module, attempt_module, retirement_module)


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker(waits=True)


class FakeRetirement:
    """What the worker was asked to end with, and how loudly."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, str]] = []

    def ask(self, exit_code: int, level: int, why: str) -> None:
        self.asked.append((exit_code, level, why))


@pytest.fixture
def retirement() -> FakeRetirement:
    return FakeRetirement()


def _role(worker: FakeWorker, retirement: FakeRetirement, threads: int) -> StuckThreads:
    return StuckThreads(worker.attempts, cast(Retirement, retirement), threads)


def _stuck(worker: FakeWorker, cancel_grace: float = 0.0) -> Attempt:
    attempt = worker.running(claimed(task_id()))
    attempt.spec = HandlerSpec("work", lambda *_: None, cancel_grace=cancel_grace)
    attempt.interrupt(Kind.TIMEOUT)
    attempt.given_up = True
    return attempt


def test_a_handler_that_holds_a_thread_is_told_of_with_its_place(
    worker: FakeWorker, retirement: FakeRetirement, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    attempt, running = _stuck(worker), worker.running()
    clock.now += 3
    _role(worker, retirement, 8).run_once()
    (record,) = caplog.records
    said = record.getMessage()
    assert record.levelno == logging.WARNING
    assert f"task {attempt.id.task_id} (work)" in said
    assert "told to stop 3 s ago" in said
    # The test's own thread has made the attempt.
    assert f"{module.__file__}:" in said or "whereabouts.py:" in said
    assert running.id.task_id not in said


def test_it_is_told_of_less_and_less_often(
    worker: FakeWorker, retirement: FakeRetirement, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    role = _role(worker, retirement, 8)
    _stuck(worker)
    began, told = clock.now, []
    for _ in range(20_000):
        role.run_once()
        told += [clock.now - began] * len(caplog.records)
        caplog.clear()
        clock.now += 1
    assert told[:4] == [0, FIRST_REPEAT_SECONDS, 3 * FIRST_REPEAT_SECONDS, 7 * FIRST_REPEAT_SECONDS]
    assert told[-1] - told[-2] == MAX_REPEAT_SECONDS


def test_one_that_comes_back_is_forgotten(
    worker: FakeWorker, retirement: FakeRetirement, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    role = _role(worker, retirement, 2)
    attempt = _stuck(worker)
    role.run_once()
    worker.attempts.step(attempt, State.ENDING)
    worker.attempts.thread_is_free(attempt, 0)
    caplog.clear()
    clock.now += 1000
    role.run_once()
    assert not caplog.records
    assert not retirement.asked


@pytest.mark.parametrize(("threads", "enough"), [(1, 1), (2, 1), (3, 2), (4, 2), (7, 4), (8, 4)])
def test_half_of_the_threads_are_too_many(
    worker: FakeWorker, retirement: FakeRetirement, clock: Clock, threads: int, enough: int
) -> None:
    role = _role(worker, retirement, threads)
    for _ in range(enough - 1):
        _stuck(worker)
    worker.running()
    role.run_once()
    clock.now += PATIENCE_SECONDS
    role.run_once()
    assert not retirement.asked
    _stuck(worker)
    role.run_once()
    clock.now += PATIENCE_SECONDS - 0.01
    role.run_once()
    assert not retirement.asked, "it may come back"
    clock.now += 0.01
    role.run_once()
    ((code, level, why),) = retirement.asked
    assert (code, level) == (EXIT_STUCK, logging.ERROR)
    assert f"{enough} of its {threads} threads" in why


def test_a_handler_that_has_time_to_clean_up_is_not_lost_before(
    worker: FakeWorker, retirement: FakeRetirement, clock: Clock
) -> None:
    role = _role(worker, retirement, 1)
    _stuck(worker, cancel_grace=60)
    role.run_once()
    clock.now += 60 + PATIENCE_SECONDS - 0.01
    role.run_once()
    assert not retirement.asked
    clock.now += 0.01
    role.run_once()
    assert retirement.asked


# -- where they are -------------------------------------------------------------


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def _runs(worker: FakeWorker, executor: Any, function: Any) -> Attempt:
    """An attempt whose handler is being run in a thread of its own."""
    made: list[Attempt] = []

    def run() -> None:
        attempt = worker.running(claimed(task_id()))
        attempt.spec = HandlerSpec("work", function)
        made.append(attempt)
        executor.run(attempt, {})

    threading.Thread(target=run, daemon=True).start()
    return eventually(lambda: made)[0]


def test_a_plain_handler_is_where_its_thread_is(worker: FakeWorker, gate: threading.Event) -> None:
    attempt = _runs(worker, ThreadExecutor(), lambda *_: gate.wait())
    eventually(lambda: where(attempt).endswith(" in wait"))
    assert "threading.py:" in where(attempt)


def test_an_async_handler_is_where_it_waits_not_where_its_thread_does(
    worker: FakeWorker, gate: threading.Event
) -> None:
    async def inner() -> None:
        while not gate.is_set():
            await asyncio.sleep(0.01)

    async def handler(*_: Any) -> None:
        await inner()

    executor = CoroutineExecutor()
    attempt = _runs(worker, executor, handler)
    eventually(lambda: where(attempt).endswith(" in sleep"))
    assert "asyncio" in where(attempt)
    gate.set()
    eventually(lambda: where(attempt).startswith("nowhere"))
    executor.close()


def test_an_attempt_whose_thread_has_ended_is_nowhere(worker: FakeWorker) -> None:
    attempt = worker.running()
    attempt.thread_id = 0
    assert where(attempt) == "nowhere: its thread has ended"


# -- the share of work -----------------------------------------------------------


def _limits(worker: FakeWorker, retirement: FakeRetirement, **limits: Any) -> Limits:
    values = {"max_tasks": 0, "max_memory_mb": 0, **limits}
    return Limits(worker.attempts, cast(Retirement, retirement), **values)


def test_without_limits_nothing_ends(worker: FakeWorker, retirement: FakeRetirement) -> None:
    role = _limits(worker, retirement, memory=lambda: 1 << 60)
    for _ in range(10):
        worker.running()
    role.run_once()
    assert not retirement.asked


def test_a_worker_ends_after_its_tasks_and_nothing_is_wrong(
    worker: FakeWorker, retirement: FakeRetirement, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The largest that can be drawn off.
    monkeypatch.setattr(limits_module, "random", SimpleNamespace(randint=lambda low, high: high))
    role = _limits(worker, retirement, max_tasks=20)
    for _ in range(17):
        worker.running()
    role.run_once()
    assert not retirement.asked
    worker.running()
    role.run_once()
    ((code, level, why),) = retirement.asked
    assert (code, level) == (EXIT_RECYCLED, logging.INFO)
    assert "ATM_MAX_TASKS" in why


def test_few_tasks_are_meant_exactly(worker: FakeWorker, retirement: FakeRetirement) -> None:
    role = _limits(worker, retirement, max_tasks=9)
    for _ in range(8):
        worker.running()
    role.run_once()
    assert not retirement.asked
    worker.running()
    role.run_once()
    assert retirement.asked


def test_a_worker_ends_above_its_memory_when_it_has_done_some_work(
    worker: FakeWorker, retirement: FakeRetirement
) -> None:
    used = [100 * 1024 * 1024]
    role = _limits(worker, retirement, max_memory_mb=100, memory=lambda: used[0])
    worker.running()
    role.run_once()
    assert not retirement.asked
    used[0] += 1
    role.run_once()
    assert retirement.asked
    fresh = FakeRetirement()
    _limits(FakeWorker(), fresh, max_memory_mb=1, memory=lambda: used[0]).run_once()
    assert not fresh.asked, "it would end again and again, and do nothing"


# -- the end --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "nearest", "gone", "receiver"),
    [
        (True, 11, False, 11),
        # A fork server stands between; the parent is gone, and its id another's; no worker of Dramatiq's.
        (True, 12, False, 99),
        (True, 11, True, 99),
        (False, 11, False, 99),
    ],
)
def test_the_master_is_asked_where_it_is_known_for_certain(
    monkeypatch: pytest.MonkeyPatch, told: bool, nearest: int, gone: bool, receiver: int
) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(
        retirement_module,
        "os",
        SimpleNamespace(getpid=lambda: 99, kill=lambda pid, number: sent.append((pid, int(number)))),
    )
    parent = cast(Parent, SimpleNamespace(is_told=told, pid=11, nearest=nearest, is_gone=gone))
    retirement = Retirement(parent)
    retirement.ask(EXIT_STUCK, logging.ERROR, "why")
    retirement.ask(EXIT_RECYCLED, logging.INFO, "again")
    assert sent == [(receiver, 15)]
    assert retirement.exit_code == EXIT_STUCK


def test_a_worker_that_drains_ends_as_it_was_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retirement_module, "os", None)
    retirement = Retirement(Parent())
    retirement.drains()
    retirement.ask(EXIT_STUCK, logging.ERROR, "why")
    assert retirement.exit_code == 0


def test_the_exit_code_of_a_retired_worker_is_told_after_the_others_of_its_master(clock: Clock) -> None:
    # Dramatiq's master would miss it.
    others = iter([True, True, False])
    parent = SimpleNamespace(is_told=False, pid=11, nearest=11, is_gone=True, has_others=lambda: next(others))
    retirement = Retirement(cast(Parent, parent))
    assert retirement.leave() == 0, "it was not asked to retire: nobody is waited for"
    retirement.exit_code = EXIT_STUCK
    assert retirement.leave() == EXIT_STUCK
    assert next(others, None) is None
    # Others that go on, or wait for this one, are not waited for without end.
    parent.has_others = lambda: True
    assert retirement.leave() == EXIT_STUCK
