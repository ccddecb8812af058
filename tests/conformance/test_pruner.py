"""The pruner: only what ended before the retention goes, with its history, a chunk at a time."""

from __future__ import annotations

import pytest
from make_tasks import Tasks
from sqlalchemy import func, select

from atm.scheduler import pruner as module
from atm.scheduler.pruner import REST, Pruner
from atm.service.outcomes import Cancelled, Failed, TimedOut
from atm.states import Reason
from atm.store.database import Database
from atm.store.logs import LOG
from atm.store.tasks import TASK

DAY = 86_400.0


class _Clock:
    """Each transaction takes half a second by it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rests: list[float] = []

    def monotonic(self) -> float:
        self.now += 0.5
        return self.now

    def sleep(self, seconds: float) -> None:
        self.rests.append(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    made = _Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def pruner(database: Database, clock: _Clock) -> Pruner:
    return Pruner(database, 7 * DAY)


def _there(database: Database, *ids: str) -> list[int]:
    """How many of these tasks there are, and how many rows of their histories."""
    return database.read(
        lambda connection: [
            connection.execute(
                select(func.count()).select_from(table).where(table.c.task_id.in_(ids))
            ).scalar_one()
            for table in (TASK, LOG)
        ]
    )


def test_only_what_ended_before_the_retention_goes_with_its_history(
    made: Tasks, pruner: Pruner, database: Database
) -> None:
    failed = Failed(Reason.HANDLER_ERROR, "boom", retryable=False)
    outcomes = (None, failed, TimedOut("x"), Cancelled("x"))
    old = [made.ended(outcome, max_retry=0) for outcome in outcomes]
    for task in old:
        made.set_ago(task, created_at=9 * DAY, completed_at=8 * DAY)
    recent, waiting, running = made.ended(), made.waiting(), made.running()
    made.set_ago(recent, created_at=9 * DAY, completed_at=6 * DAY)
    for task in (waiting, running):
        made.set_ago(task, created_at=9 * DAY, due_at=9 * DAY)
    before = _there(database, recent, waiting, running)
    assert not pruner.run_once()
    assert _there(database, *old) == [0, 0]
    assert _there(database, recent, waiting, running) == before


def test_more_than_a_chunk_goes_in_turns_with_a_rest_after_each(
    made: Tasks, pruner: Pruner, database: Database, clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)
    ids = [made.ended() for _ in range(5)]
    for age, task in enumerate(ids):
        made.set_ago(task, completed_at=(8 + age) * DAY)
    left = []
    for more in (True, True, False):
        assert pruner.run_once() is more
        left.append([task for task in ids if _there(database, task) != [0, 0]])
    # The oldest first.
    assert left == [ids[:3], ids[:1], []]
    assert clock.rests == [REST * 0.5] * 2
