"""The prefetcher looks ahead by time: far for short tasks, not at all for long ones."""

from __future__ import annotations

import logging

import pytest
from fake_worker import Clock, FakeWorker, messages

from atm.worker import attempt as attempt_module
from atm.worker import prefetcher as module
from atm.worker.attempt import Attempt, State
from atm.worker.prefetcher import MOST_AHEAD

THREADS = 4


class _Worker(FakeWorker):
    """A prefetcher between fakes of Redis and SQL. Without `claims` nothing is claimed ahead."""

    def __init__(self, count: int, *, claims: bool = False) -> None:
        super().__init__(messages(count), threads=THREADS, waits=True, claims_ahead=claims)

    def begin(self, attempt: Attempt) -> None:
        """A thread begins with it."""
        attempt.begun_at = module.time.monotonic()
        assert self.attempts.step(attempt, State.RUNNING)

    def end(self, attempt: Attempt) -> None:
        """The thread is free, and the attempt is over."""
        self.prefetcher.thread_is_free(attempt)
        self.attempts.step(attempt, State.DROPPED)

    def pass_through(self, count: int, seconds: float, clock: Clock) -> None:
        """Takes and ends attempts as if each had taken this long, and no time had passed in between."""
        for _ in range(count):
            attempt = self.prefetcher.take()
            assert attempt is not None
            self.begin(attempt)
            clock.now += seconds
            self.end(attempt)
            clock.now -= seconds

    def short_then_long(self, clock: Clock) -> tuple[list[Attempt], list[Attempt]]:
        """Threads that are busy with tasks that turn out long, and what was handed out ahead of them."""
        self.pass_through(400, 0.001, clock)
        handed = [attempt for attempt in (self.prefetcher.take() for _ in range(2 * THREADS)) if attempt]
        assert len(handed) == 2 * THREADS
        for attempt in handed[:THREADS]:
            self.begin(attempt)
        return handed[:THREADS], handed[THREADS:]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock.of(monkeypatch, module, attempt_module)


def test_it_takes_no_more_than_there_are_threads_for_tasks_that_are_long(clock: Clock) -> None:
    worker = _Worker(200)
    worker.pass_through(50, 1.0, clock)
    assert set(worker.broker.wanted) == {THREADS}


def test_it_looks_ahead_as_far_as_40_ms_when_they_are_short(clock: Clock) -> None:
    worker = _Worker(2000)
    worker.pass_through(800, 0.0039, clock)
    # 4 threads, ten of 3.9 ms for each within 40 ms; asked for when half of them are left.
    assert 20 <= max(worker.broker.wanted[-5:]) <= 4 * 10 + THREADS


def test_among_tasks_of_which_some_are_long_it_does_not_look_ahead(clock: Clock) -> None:
    worker = _Worker(2000)
    for _ in range(30):
        worker.pass_through(9, 0.001, clock)
        worker.pass_through(1, 0.5, clock)
    assert max(worker.broker.wanted) == THREADS


def test_it_never_looks_further_than_a_fixed_number(clock: Clock) -> None:
    worker = _Worker(5000)
    worker.pass_through(1000, 0.00001, clock)
    assert max(worker.broker.wanted) <= THREADS + MOST_AHEAD


def test_what_waits_behind_tasks_that_turn_out_long_is_requeued(clock: Clock) -> None:
    worker = _Worker(600)
    begun, ahead = worker.short_then_long(clock)
    before = len(worker.broker.waiting)
    clock.now += module.STALE_SECONDS
    # No thread is free: others may have what was fetched, and handed out, ahead.
    assert worker.prefetcher.take() is None
    assert {attempt.state for attempt in begun} == {State.RUNNING}
    assert {attempt.state for attempt in ahead} == {State.HANDED_BACK}
    assert len(worker.broker.waiting) > before + len(ahead)
    # ... in their order.
    numbers = [int(fetched.message.args[0]) for fetched in worker.broker.waiting]
    assert numbers == sorted(numbers)
    assert not worker.attempts.ready_count


def test_what_waits_is_left_to_others_though_there_is_room_and_nothing_to_fetch(clock: Clock) -> None:
    worker = _Worker(600)
    _, ahead = worker.short_then_long(clock)
    worker.broker.waiting.clear()
    for attempt in ahead[:-1]:
        worker.begin(attempt)
        worker.end(attempt)
    while (ready := worker.prefetcher.take()) is not None:
        worker.begin(ready)
        worker.end(ready)
    clock.now += module.STALE_SECONDS
    worker.prefetcher.take()
    assert ahead[-1].state is State.HANDED_BACK
    assert ahead[-1].fetched in worker.broker.requeued


def test_what_is_claimed_is_handed_back_in_sql_and_not_requeued_in_redis(clock: Clock) -> None:
    worker = _Worker(600, claims=True)
    taken = worker.prefetcher.take()
    assert taken is not None
    rest = [attempt for attempt in (worker.prefetcher.take() for _ in range(THREADS)) if attempt]
    worker.begin(taken)
    for _, reply in worker.starts.submitted[:2]:
        reply.set_result("a task")
    clock.now += module.STALE_SECONDS
    worker.prefetcher.take()
    # The one whose claim is answered; the others belong to nobody yet.
    assert [end.task_id for end, _ in worker.ends.submitted] == [rest[0].id.task_id]
    assert rest[0].state is State.ENDING
    assert {attempt.state for attempt in rest[1:]} == {State.CLAIMED}
    assert not worker.broker.requeued
    worker.ends.submitted[0][1].set_result(None)
    assert rest[0].state is State.HANDED_BACK
    assert worker.broker.acknowledged == [rest[0].fetched]


def test_what_is_here_is_handed_out_though_redis_is_away(clock: Clock) -> None:
    worker = _Worker(600)
    worker.pass_through(400, 0.001, clock)
    worker.broker.is_away = True
    left = worker.attempts.ready_count
    assert left
    worker.pass_through(left, 0.001, clock)
    assert worker.prefetcher.take() is None


def test_a_stopping_prefetcher_fetches_nothing_and_hands_out_what_it_has(clock: Clock) -> None:
    worker = _Worker(10)
    first = worker.prefetcher.take()
    worker.prefetcher.stop()
    rest = [worker.prefetcher.take() for _ in range(THREADS)]
    assert first is not None
    numbers = [int(attempt.id.task_id) for attempt in [first, *rest] if attempt]
    assert numbers == list(range(THREADS))
    assert worker.broker.wanted == [THREADS]


def test_a_message_that_is_delivered_twice_is_handed_out_once(clock: Clock) -> None:
    worker = _Worker(1)
    worker.broker.waiting.append(worker.broker.waiting[0])
    assert worker.prefetcher.take() is not None
    assert worker.prefetcher.take() is None


def test_cut_off_from_sql_it_leaves_what_waits_to_others_and_takes_no_more_until_sql_is_back(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    worker = _Worker(3, claims=True)
    first = worker.prefetcher.take()
    assert first is not None
    assert first.state is State.CLAIMED
    worker.is_cut_off = True
    for _ in range(3):
        assert worker.prefetcher.take() is None
    assert first.state is State.HANDED_BACK
    assert first.fetched in worker.broker.requeued, "though SQL has not answered its claim"
    assert worker.broker.wanted[-3:] == [0, 0, 0], "it says that it lives"
    assert len(worker.broker.waiting) == 3
    worker.end(first)
    worker.is_cut_off = False
    again = worker.prefetcher.take()
    assert again is not None
    assert again.id == first.id
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.INFO]


def test_what_runs_while_it_is_cut_off_goes_on(clock: Clock) -> None:
    worker = _Worker(1, claims=True)
    attempt = worker.prefetcher.take()
    assert attempt is not None
    worker.begin(attempt)
    worker.is_cut_off = True
    assert worker.prefetcher.take() is None
    assert attempt.state is State.RUNNING
    assert not worker.broker.requeued
