"""Counts: exact while they are quick; never waited for twice when they are not."""

from __future__ import annotations

import threading

from fix_system import eventually

from atm.service._counts import Counts


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_quick_count_is_made_each_time() -> None:
    counts, numbers = Counts(), iter(range(10))
    assert [counts.get("a", lambda: next(numbers)) for _ in range(3)] == [0, 1, 2]


def test_a_slow_count_is_not_waited_for_again_and_made_again_when_it_is_old() -> None:
    clock = _Clock()
    counts = Counts(clock)
    numbers = iter(range(10))
    made = threading.Event()

    def slow() -> int:
        clock.now += 1.5
        made.set()
        return next(numbers)

    assert counts.get("a", slow) == 0
    made.clear()
    clock.now += 5
    assert counts.get("a", slow) == 0
    assert not made.is_set()
    clock.now += 12
    assert counts.get("a", slow) == 0
    assert made.wait(5)
    eventually(lambda: counts.get("a", slow) == 1)


def test_each_question_has_its_own_answer() -> None:
    counts = Counts()
    assert (counts.get("a", lambda: 1), counts.get("b", lambda: 2)) == (1, 2)
