"""The dispenser looks ahead by time: far for short tasks, not at all for long ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import pytest
from redis.exceptions import ConnectionError  # noqa: A004 - Redis's own

from atm.broker import dispenser as module
from atm.broker.broker import task_message
from atm.broker.dispenser import MOST_AHEAD, Dispenser, TaskMessage

THREADS = 4


class _Redis:
    def __init__(self, count: int) -> None:
        self.waiting = deque(TaskMessage(task_message(f"t{n}", 1, 0), cancelled=False) for n in range(count))
        self.wanted: list[int] = []
        self.given_back: list[TaskMessage] = []

    def fetch(self, queues: Iterable[str], wanted: int, streak: int) -> tuple[int, list[TaskMessage]]:
        self.wanted.append(wanted)
        return streak, [self.waiting.popleft() for _ in range(min(wanted, len(self.waiting)))]

    def wait(self, queues: Iterable[str], seconds: float) -> None:
        return None

    def put_back(self, messages: Sequence[TaskMessage]) -> None:
        self.given_back += messages
        self.waiting.extendleft(reversed(messages))


def _dispenser(redis: _Redis) -> Dispenser:
    made = Dispenser(redis.fetch, redis.wait, redis.put_back)
    made.capacity = THREADS
    made.add_queue("normal")
    return made


class _Clock:
    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    made = _Clock()
    monkeypatch.setattr(module.time, "monotonic", lambda: made.now)
    return made


def _run(dispenser: Dispenser, count: int, seconds: float, clock: _Clock) -> None:
    """Takes and releases as if each task had taken this long, and no time had passed in between."""
    for _ in range(count):
        message = dispenser.take()
        assert message is not None
        dispenser.begin(message)
        clock.now += seconds
        dispenser.release(message)
        clock.now -= seconds


def test_it_takes_no_more_than_there_are_threads_for_tasks_that_are_long(clock: _Clock) -> None:
    redis = _Redis(200)
    _run(_dispenser(redis), 50, 1.0, clock)
    assert set(redis.wanted) == {THREADS}


def test_it_looks_ahead_as_far_as_40_ms_when_they_are_short(clock: _Clock) -> None:
    redis = _Redis(2000)
    _run(_dispenser(redis), 800, 0.0039, clock)
    # 4 threads, ten of 3.9 ms for each within 40 ms; asked for when half of them are left.
    assert 20 <= max(redis.wanted[-5:]) <= 4 * 10 + THREADS


def test_among_tasks_of_which_some_are_long_it_does_not_look_ahead(clock: _Clock) -> None:
    redis = _Redis(2000)
    dispenser = _dispenser(redis)
    for _ in range(30):
        _run(dispenser, 9, 0.001, clock)
        _run(dispenser, 1, 0.5, clock)
    assert max(redis.wanted) == THREADS


def test_it_never_looks_further_than_a_fixed_number(clock: _Clock) -> None:
    redis = _Redis(5000)
    _run(_dispenser(redis), 1000, 0.00001, clock)
    assert max(redis.wanted) <= THREADS + MOST_AHEAD


def _short_then_long(dispenser: Dispenser, clock: _Clock) -> tuple[list[TaskMessage], list[TaskMessage]]:
    """Threads that are busy with tasks that turn out long, and what was handed out ahead of them."""
    _run(dispenser, 400, 0.001, clock)
    handed = [message for message in (dispenser.take() for _ in range(2 * THREADS)) if message]
    assert len(handed) == 2 * THREADS
    for message in handed[:THREADS]:
        dispenser.begin(message)
    return handed[:THREADS], handed[THREADS:]


def test_what_waits_behind_tasks_that_turn_out_long_is_put_back(clock: _Clock) -> None:
    redis = _Redis(600)
    dispenser = _dispenser(redis)
    begun, ahead = _short_then_long(dispenser, clock)
    before = len(redis.waiting)
    clock.now += module.STALE_SECONDS
    # No thread is free: others may have what was fetched, and handed out, ahead.
    assert dispenser.take() is None
    assert [message.revoked for message in begun + ahead] == [False] * THREADS + [True] * THREADS
    assert len(redis.waiting) > before + len(ahead)
    # ... in their order.
    numbers = [int(message.args[0][1:]) for message in redis.waiting]
    assert numbers == sorted(numbers)


def test_what_waits_is_left_to_others_though_there_is_room_and_nothing_to_fetch(clock: _Clock) -> None:
    redis = _Redis(600)
    dispenser = _dispenser(redis)
    _, ahead = _short_then_long(dispenser, clock)
    redis.waiting.clear()
    for message in ahead[:-1]:
        dispenser.begin(message)
        dispenser.release(message)
    while (ready := dispenser.take()) is not None:
        dispenser.begin(ready)
        dispenser.release(ready)
    clock.now += module.STALE_SECONDS
    dispenser.take()
    assert ahead[-1].revoked
    assert ahead[-1] in redis.given_back


def test_what_is_claimed_is_handed_back_in_sql_and_not_put_back_in_redis(clock: _Clock) -> None:
    redis = _Redis(600)
    dispenser = _dispenser(redis)
    handed_back: list[TaskMessage] = []

    class Claimed:
        def wait(self, seconds: float) -> bool:
            return True

    def claim(messages: Sequence[TaskMessage]) -> None:
        for message in messages:
            message.claim = Claimed()

    def hand_back(messages: Sequence[TaskMessage], why: str) -> Sequence[TaskMessage]:
        assert why == "the threads of its worker were busy"
        handed_back.extend(messages)
        for message in messages:
            message.revoked = True
        return messages

    dispenser.claim, dispenser.hand_back = claim, hand_back
    _, ahead = _short_then_long(dispenser, clock)
    clock.now += module.STALE_SECONDS
    assert dispenser.take() is None
    assert handed_back[: len(ahead)] == ahead
    assert not redis.given_back


def test_what_is_here_is_handed_out_though_redis_is_away(clock: _Clock) -> None:
    redis = _Redis(600)
    dispenser = _dispenser(redis)
    _run(dispenser, 400, 0.001, clock)

    def away(queues: Iterable[str], wanted: int, streak: int) -> tuple[int, list[TaskMessage]]:
        raise ConnectionError

    dispenser._fetch = away
    left = len(dispenser._ready)
    assert left
    _run(dispenser, left, 0.001, clock)
    with pytest.raises(ConnectionError):
        dispenser.take()


def test_a_stopping_dispenser_fetches_nothing_and_hands_out_what_it_has() -> None:
    redis = _Redis(10)
    dispenser = _dispenser(redis)
    first = dispenser.take()
    dispenser.stop()
    rest = [dispenser.take() for _ in range(THREADS)]
    assert first is not None
    assert [message.args[0] for message in [first, *rest] if message] == [f"t{n}" for n in range(THREADS)]
    assert redis.wanted == [THREADS]
