"""A worker goes on from SQL while Redis is away, full or refuses, and goes back without a seam."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from fake_worker import Clock, FakeWorker, fetched

from atm.errors import UnavailableError
from atm.lists import Hint, TaskList
from atm.models import now
from atm.store.waiting import Due
from atm.worker import sources as module
from atm.worker.attempt import AttemptId


def _due(number: int, priority: int = 0) -> Due:
    of = TaskList("work", priority)
    return Due(Hint(f"{number:036d}", 1, of), now() - timedelta(seconds=1), of)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock.of(monkeypatch, module)


@pytest.fixture
def worker(clock: Clock) -> FakeWorker:
    made = FakeWorker()
    made.sources.add_queue("high")
    return made


def _taken(worker: FakeWorker, wanted: int = 10) -> list[str]:
    return [attempt.id.task_id for attempt in worker.sources.take(wanted)]


def test_while_redis_is_away_what_is_due_comes_from_sql(worker: FakeWorker) -> None:
    worker.broker.is_away = True
    worker.due_tasks.due = [_due(2), _due(1)]
    first, second = worker.sources.take(10)
    assert (first.id, second.id) == (AttemptId(f"{1:036d}", 1), AttemptId(f"{2:036d}", 1))
    assert first.fetched is None
    assert first.message.args == first.id
    assert first.message.queue_name == "normal"


def test_what_is_here_already_is_not_taken_again(worker: FakeWorker) -> None:
    worker.broker.is_away = True
    worker.due_tasks.due = [_due(1)]
    worker.attempts.add(worker.sources.take(10))
    worker.due_tasks.due.append(_due(2))
    assert _taken(worker) == [f"{2:036d}"]


def test_high_comes_first_but_for_each_ninth(worker: FakeWorker) -> None:
    worker.broker.is_away = True
    worker.due_tasks.due = [_due(n) for n in range(100)] + [_due(n, 1) for n in range(100, 200)]
    urgent = [attempt.message.queue_name == "high" for attempt in worker.sources.take(20)]
    assert urgent == [*[True] * 8, False, *[True] * 8, False, True, True]


def test_of_many_it_takes_any_of_the_oldest(worker: FakeWorker) -> None:
    worker.broker.is_away = True
    worker.due_tasks.due = [_due(n) for n in range(1000)]
    taken = [int(task_id) for task_id in _taken(worker, 10)]
    assert len(set(taken)) == 10
    assert taken == sorted(taken)
    assert max(taken) < 40


def test_a_redis_that_is_away_is_left_alone_and_said_once(
    worker: FakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    worker.broker.is_away = True
    for _ in range(3):
        assert _taken(worker) == []
        worker.sources.wait(1)
        worker.sources.watch.run_once()
    assert not worker.broker.wanted
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    worker.broker.is_away = False
    worker.broker.waiting.append(fetched())
    # Nobody asks it before it was looked at.
    assert _taken(worker) == []
    worker.sources.watch.run_once()
    assert len(_taken(worker)) == 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.INFO]


def test_a_redis_that_is_full_is_emptied_and_the_rest_comes_from_sql(worker: FakeWorker) -> None:
    worker.broker.is_full = True
    worker.sources.watch.run_once()
    message = fetched()
    worker.broker.waiting.append(message)
    worker.due_tasks.due = [_due(1)]
    assert _taken(worker) == [message.message.args[0]]
    assert _taken(worker) == [f"{1:036d}"]


def test_what_has_missed_its_message_is_looked_for_once_a_second(worker: FakeWorker, clock: Clock) -> None:
    worker.due_tasks.due = [_due(1)]
    assert len(_taken(worker)) == 1
    assert _taken(worker) == []
    clock.now += 1
    assert len(_taken(worker)) == 1


def test_without_redis_and_sql_there_is_nothing(worker: FakeWorker) -> None:
    worker.broker.is_away = True
    worker.due_tasks.error = UnavailableError("away")
    assert _taken(worker) == []


def test_the_message_of_what_came_from_sql_is_acknowledged_with_its_end(worker: FakeWorker) -> None:
    worker.broker.is_away = True
    worker.due_tasks.due = [_due(1)]
    (attempt,) = worker.attempts.add(worker.sources.take(1))
    message = fetched(attempt.id.task_id)
    worker.broker.is_away = False
    worker.sources.watch.run_once()
    worker.broker.waiting.append(message)
    assert worker.attempts.add(worker.sources.take(1)) == []
    assert worker.attempts.hand_out() is attempt
    worker.handle(lambda context: None)
    worker.process(attempt)
    assert worker.broker.acknowledged == [message]
    assert worker.is_empty()
