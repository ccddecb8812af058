"""Who waits for a task, by a clock of the test's own: told at once, or with the next look, or in time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from atm.models import Task
from atm.server.waiting import LOOK_SECONDS, Waiting
from atm.states import Status


class _Selector(selectors.SelectSelector):
    """Instead of waiting it lets time pass."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            return super().select()
        self.passed += timeout
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose time passes when it has nothing to do."""

    def __init__(self) -> None:
        self._watch = _Selector()
        super().__init__(self._watch)

    def time(self) -> float:
        return round(self._watch.passed, 6)


class _Tasks:
    """One task, and when it was looked at."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.status = Status.PENDING
        self.looks: list[float] = []
        self._loop = loop

    def get(self, task_id: str, answer: Any) -> None:
        self.looks.append(self._loop.time())
        answer.set_result(Task.model_construct(task_id=task_id, status=self.status))

    def end(self) -> None:
        self.status = Status.SUCCESS


@pytest.fixture
def loop() -> Iterator[_Loop]:
    made = _Loop()
    yield made
    made.close()


@pytest.fixture
def tasks(loop: _Loop) -> _Tasks:
    return _Tasks(loop)


@pytest.fixture
def waiting(loop: _Loop, tasks: Any) -> Waiting:
    return Waiting(tasks, loop)


def _wait(
    loop: _Loop, waiting: Waiting, seconds: float, at: float = 0.0, do: Callable[[], Any] | None = None
) -> tuple[str, float]:
    """Waits for a task, and does something meanwhile, `at` a time; what the answer was, and when it came."""
    if do is not None:
        loop.call_at(at, do)
    task = loop.run_until_complete(waiting.wait("t", seconds))
    return task.status, loop.time()


def test_what_does_not_end_is_answered_when_the_time_is_up_and_not_before(
    loop: _Loop, waiting: Waiting, tasks: _Tasks
) -> None:
    assert _wait(loop, waiting, 3.5) == (Status.PENDING, 3.5)
    assert tasks.looks == [0.0, LOOK_SECONDS, 2 * LOOK_SECONDS, 3 * LOOK_SECONDS, 3.5]


def test_what_has_ended_is_answered_at_once(loop: _Loop, waiting: Waiting, tasks: _Tasks) -> None:
    tasks.end()
    assert _wait(loop, waiting, 60) == (Status.SUCCESS, 0.0)


def test_an_end_is_answered_when_it_is_heard_of(loop: _Loop, waiting: Waiting, tasks: _Tasks) -> None:
    def end_and_tell() -> None:
        tasks.end()
        waiting.hear(["another", "t"])

    assert _wait(loop, waiting, 60, 0.25, end_and_tell) == (Status.SUCCESS, 0.25)


def test_an_end_that_nobody_tells_of_is_found_with_the_next_look(
    loop: _Loop, waiting: Waiting, tasks: _Tasks
) -> None:
    assert _wait(loop, waiting, 60, 2.25, tasks.end) == (Status.SUCCESS, 3 * LOOK_SECONDS)


def test_a_word_about_a_task_that_goes_on_ends_no_wait(loop: _Loop, waiting: Waiting, tasks: _Tasks) -> None:
    assert _wait(loop, waiting, 0.75, 0.25, lambda: waiting.hear(["t"])) == (Status.PENDING, 0.75)
    assert tasks.looks == [0.0, 0.25, 0.75]


def test_a_server_that_stops_answers_everybody_with_the_task_as_it_is(loop: _Loop, waiting: Waiting) -> None:
    assert _wait(loop, waiting, 60, 0.25, waiting.close) == (Status.PENDING, 0.25)
    # Whoever comes after that, too.
    assert _wait(loop, waiting, 60) == (Status.PENDING, 0.25)
