"""The dispenser looks ahead by time: far for short tasks, not at all for long ones."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from atm.broker import dispenser as module
from atm.broker.broker import task_message
from atm.broker.dispenser import MOST_AHEAD, Dispenser, TaskMessage

THREADS = 4


class _Redis:
    def __init__(self, count: int) -> None:
        self.waiting = deque(TaskMessage(task_message(f"t{n}", 1, 0), cancelled=False) for n in range(count))
        self.wanted: list[int] = []

    def fetch(self, queues: Iterable[str], wanted: int, streak: int) -> tuple[int, list[TaskMessage]]:
        self.wanted.append(wanted)
        return streak, [self.waiting.popleft() for _ in range(min(wanted, len(self.waiting)))]

    def wait(self, queues: Iterable[str], seconds: float) -> None:
        return None

    def put_back(self, messages: Sequence[TaskMessage]) -> None:
        self.waiting.extendleft(reversed(messages))


def _dispenser(redis: _Redis) -> Dispenser:
    made = Dispenser(redis.fetch, redis.wait, redis.put_back)
    made.capacity = THREADS
    made.add_queue("normal")
    return made


def _run(dispenser: Dispenser, count: int, seconds: float, monkeypatch: Any) -> None:
    """Takes and releases as if each task had taken this long."""
    clock = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: clock)
    for _ in range(count):
        message = dispenser.take()
        assert message is not None
        dispenser.begin(message)
        clock += seconds
        dispenser.release(message)


def test_it_takes_no_more_than_there_are_threads_for_tasks_that_are_long(monkeypatch: Any) -> None:
    redis = _Redis(200)
    _run(_dispenser(redis), 50, 1.0, monkeypatch)
    assert set(redis.wanted) == {THREADS}


def test_it_looks_ahead_as_far_as_20_ms_when_they_are_short(monkeypatch: Any) -> None:
    redis = _Redis(2000)
    _run(_dispenser(redis), 500, 0.002, monkeypatch)
    # 4 threads and 2 ms each: 40 within 20 ms.
    assert 35 <= redis.wanted[-1] - THREADS <= 45


def test_it_never_looks_further_than_a_fixed_number(monkeypatch: Any) -> None:
    redis = _Redis(5000)
    _run(_dispenser(redis), 1000, 0.00001, monkeypatch)
    assert max(redis.wanted) <= THREADS + MOST_AHEAD


def test_what_waits_behind_tasks_that_turn_out_long_is_put_back(monkeypatch: Any) -> None:
    redis = _Redis(300)
    dispenser = _dispenser(redis)
    with monkeypatch.context() as patch:
        _run(dispenser, 200, 0.001, patch)
    handed = [dispenser.take() for _ in range(2 * THREADS)]
    begun, ahead = handed[:THREADS], handed[THREADS:]
    for message in begun:
        assert message is not None
        dispenser.begin(message)
    before = len(redis.waiting)
    threading.Event().wait(module.STALE_SECONDS)
    # No thread is free: others may have what was fetched, and handed out, ahead.
    assert dispenser.take() is None
    assert dispenser.leftovers() == []
    assert [message.revoked for message in handed if message] == [False] * THREADS + [True] * THREADS
    assert len(redis.waiting) >= before + len(ahead)
    # ... in their order.
    numbers = [int(message.args[0][1:]) for message in redis.waiting]
    assert numbers == sorted(numbers)


def test_a_stopping_dispenser_hands_nothing_out() -> None:
    dispenser = _dispenser(_Redis(10))
    dispenser.stop()
    assert dispenser.take() is None
