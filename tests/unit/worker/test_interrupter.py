"""Handlers are interrupted at their deadline and by a cancel flag, pressed again, and given up on once."""

from __future__ import annotations

import logging
from typing import cast

import pytest
from fake_worker import AWAY, Clock, FakeFlags, FakeWorker, claimed, task_id

from atm.broker.cancel_flags import CancelFlags
from atm.errors import BrokerUnavailableError
from atm.service.outcomes import Cancelled, TimedOut
from atm.worker import attempt as attempt_module
from atm.worker import interrupter as module
from atm.worker.attempt import Attempt, State
from atm.worker.handlers import HandlerSpec
from atm.worker.interrupter import (
    CANCEL_GIVE_UP_SECONDS,
    FLAGS_SECONDS,
    GIVE_UP_SECONDS,
    TICK_SECONDS,
    CancelListener,
    Interrupter,
)
from atm.worker.interruption import Interruption, Kind


class _Handle:
    """How often a handler was pressed, and when."""

    def __init__(self) -> None:
        self.pressed: list[float] = []

    def press(self, interruption: Interruption, elapsed: float) -> None:
        self.pressed.append(elapsed)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock.of(monkeypatch, module, attempt_module)


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker(waits=True)


def _running(worker: FakeWorker, timeout_ms: int = 0) -> tuple[Attempt, _Handle]:
    attempt = worker.running(claimed(task_id(), timeout_ms=timeout_ms))
    handle = attempt.handle = _Handle()
    return attempt, handle


def _kind(attempt: Attempt) -> Kind | None:
    return attempt.interruption and attempt.interruption.kind


# -- deadlines -----------------------------------------------------------------


@pytest.fixture
def interrupter(worker: FakeWorker, clock: Clock) -> Interrupter:
    return Interrupter(worker.attempts, worker.completer)


def test_a_handler_is_interrupted_at_its_deadline_and_not_before(
    worker: FakeWorker, interrupter: Interrupter, clock: Clock
) -> None:
    (attempt, handle), (endless, _) = _running(worker, 1000), _running(worker)
    clock.now += 0.99
    interrupter.run_once()
    assert _kind(attempt) is None
    clock.now += 0.01
    interrupter.run_once()
    assert _kind(attempt) is Kind.TIMEOUT
    assert handle.pressed
    assert set(handle.pressed) == {0.0}
    assert _kind(endless) is None


def test_a_handler_that_goes_on_is_pressed_at_every_tick(
    worker: FakeWorker, interrupter: Interrupter, clock: Clock
) -> None:
    attempt, handle = _running(worker)
    attempt.interrupt(Kind.CANCEL)
    handle.pressed.clear()
    for _ in range(3):
        clock.now += TICK_SECONDS
        interrupter.run_once()
    assert handle.pressed == pytest.approx([TICK_SECONDS, 2 * TICK_SECONDS, 3 * TICK_SECONDS])


def test_a_handler_that_does_not_stop_is_given_up_on_once(
    worker: FakeWorker, interrupter: Interrupter, clock: Clock
) -> None:
    attempt, handle = _running(worker, 1000)
    clock.now += 1
    interrupter.run_once()
    clock.now += GIVE_UP_SECONDS - 0.01
    interrupter.run_once()
    assert not worker.service.finished
    clock.now += 0.01
    for _ in range(3):
        interrupter.run_once()
        clock.now += TICK_SECONDS
    (end,) = worker.service.finished
    assert end[:2] == attempt.id
    assert isinstance(end.outcome, TimedOut)
    assert attempt.given_up
    assert attempt.state is State.RUNNING
    # It holds its thread: it is pressed as before.
    before = len(handle.pressed)
    interrupter.run_once()
    assert len(handle.pressed) > before


def test_a_handler_that_goes_on_after_its_grace_ends_cancelled_without_it(
    worker: FakeWorker, interrupter: Interrupter, clock: Clock
) -> None:
    attempt, _ = _running(worker)
    attempt.spec = HandlerSpec("work", lambda *_: None, cancel_grace=3)
    attempt.interrupt(Kind.CANCEL)
    clock.now += CANCEL_GIVE_UP_SECONDS + 3 - 0.01
    interrupter.run_once()
    assert not worker.service.finished
    clock.now += 0.01
    for _ in range(2):
        interrupter.run_once()
    (end,) = worker.service.finished
    assert isinstance(end.outcome, Cancelled)
    assert worker.attempts.stuck() == [attempt]
    assert attempt.state is State.RUNNING


def test_a_handler_whose_attempt_sql_has_given_up_on_is_told_of_to_nobody(
    worker: FakeWorker, interrupter: Interrupter, clock: Clock
) -> None:
    attempt, _ = _running(worker)
    attempt.interrupt(Kind.REVOKED)
    interrupter.run_once()
    assert not worker.attempts.stuck()
    clock.now += GIVE_UP_SECONDS
    interrupter.run_once()
    assert worker.attempts.stuck() == [attempt]
    assert not worker.service.finished


def test_a_handler_of_a_worker_that_stops_is_left_to_the_one_who_stops_it(
    worker: FakeWorker, interrupter: Interrupter, clock: Clock
) -> None:
    attempt, _ = _running(worker)
    attempt.interrupt(Kind.DRAIN)
    clock.now += 100
    interrupter.run_once()
    assert not worker.service.finished
    assert not attempt.given_up


def test_without_sql_giving_up_is_tried_again(
    worker: FakeWorker, interrupter: Interrupter, clock: Clock
) -> None:
    attempt, _ = _running(worker, 1)
    attempt.log.line("so far")
    clock.now += 1
    interrupter.run_once()
    clock.now += GIVE_UP_SECONDS
    worker.service.error = AWAY
    interrupter.run_once()
    interrupter.run_once()
    assert not attempt.given_up
    worker.service.error = None
    interrupter.run_once()
    (end,) = worker.service.finished
    assert [line.message for line in end.report.lines] == ["so far"]


def test_an_attempt_that_cannot_be_given_up_on_takes_no_time_from_those_beside_it(
    worker: FakeWorker, interrupter: Interrupter, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    stuck, _ = _running(worker, 1)
    clock.now += 1
    interrupter.run_once()
    clock.now += GIVE_UP_SECONDS
    beside, _ = _running(worker, 1)
    clock.now += 1
    worker.service.error = ZeroDivisionError("a defect")
    interrupter.run_once()
    assert _kind(beside) is Kind.TIMEOUT
    assert stuck.given_up, "not tried at every tick"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_handler_that_cannot_be_pressed_takes_no_time_from_those_beside_it(
    worker: FakeWorker, interrupter: Interrupter, clock: Clock
) -> None:
    class Broken:
        def press(self, interruption: Interruption, elapsed: float) -> None:
            raise ZeroDivisionError("a defect")

    (stuck, _), (beside, handle) = _running(worker, 1000), _running(worker, 1000)
    stuck.handle = Broken()
    clock.now += 1
    with pytest.raises(ZeroDivisionError):
        interrupter.run_once()
    assert _kind(beside) is Kind.TIMEOUT
    assert handle.pressed


# -- flags ---------------------------------------------------------------------


@pytest.fixture
def flags() -> FakeFlags:
    return FakeFlags()


@pytest.fixture
def listener(worker: FakeWorker, flags: FakeFlags, clock: Clock) -> CancelListener:
    made = CancelListener(worker.attempts, cast(CancelFlags, flags))
    made.run_once()  # a first look
    flags.asked.clear()
    return made


def test_a_flag_that_is_raised_interrupts_a_running_handler_at_once(
    worker: FakeWorker, flags: FakeFlags, listener: CancelListener
) -> None:
    (attempt, handle), (beside, _) = _running(worker), _running(worker)
    flags.raised[attempt.id.task_id] = "ann"
    flags.channel.append(attempt.id.task_id)
    listener.run_once()
    assert attempt.interruption is not None
    assert (attempt.interruption.kind, attempt.interruption.requested_by) == (Kind.CANCEL, "ann")
    assert handle.pressed == [0.0]
    assert beside.interruption is None


def test_a_flag_of_a_task_that_runs_elsewhere_costs_nothing(
    worker: FakeWorker, flags: FakeFlags, listener: CancelListener
) -> None:
    attempt, _ = _running(worker)
    flags.channel += [task_id(), task_id(), "", "\ufffd"]
    for _ in range(4):
        listener.run_once()
    assert not flags.asked
    assert attempt.interruption is None


def test_a_message_that_was_lost_costs_no_more_than_one_period(
    worker: FakeWorker, flags: FakeFlags, listener: CancelListener, clock: Clock
) -> None:
    attempt, _ = _running(worker)
    flags.raised[attempt.id.task_id] = "ann"
    clock.now += FLAGS_SECONDS - 0.01
    listener.run_once()
    assert attempt.interruption is None
    clock.now += 0.01
    listener.run_once()
    assert _kind(attempt) is Kind.CANCEL


def test_flags_of_what_was_told_to_stop_are_not_read_again(
    worker: FakeWorker, flags: FakeFlags, listener: CancelListener, clock: Clock
) -> None:
    attempt, _ = _running(worker)
    attempt.interrupt(Kind.TIMEOUT)
    flags.raised[attempt.id.task_id] = "ann"
    clock.now += FLAGS_SECONDS
    listener.run_once()
    assert flags.asked == [[]]
    assert _kind(attempt) is Kind.TIMEOUT


def test_who_may_not_listen_reads_the_flags_and_says_so_once(
    worker: FakeWorker, listener: CancelListener, flags: FakeFlags, caplog: pytest.LogCaptureFixture
) -> None:
    def deaf(seconds: float) -> None:
        raise BrokerUnavailableError("no right to listen")

    flags.next = deaf  # type: ignore[method-assign]
    attempt, _ = _running(worker)
    listener.run_once()
    flags.raised[attempt.id.task_id] = "ann"
    listener.run_once()
    assert _kind(attempt) is Kind.CANCEL
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_without_redis_it_says_so_and_works_again_after(
    worker: FakeWorker, flags: FakeFlags, listener: CancelListener, clock: Clock
) -> None:
    attempt, _ = _running(worker)
    flags.raised[attempt.id.task_id] = "ann"
    flags.is_away = True
    clock.now += FLAGS_SECONDS
    with pytest.raises(BrokerUnavailableError):
        listener.run_once()
    flags.is_away = False
    listener.run_once()
    assert _kind(attempt) is Kind.CANCEL
    listener.close()
    assert flags.is_closed
