"""The timeout sweeper: what its worker should have ended long ago is ended for it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from make_tasks import Tasks

from atm.scheduler import timeout_sweeper as module
from atm.scheduler.timeout_sweeper import GRACE, TimeoutSweeper
from atm.service.attempts import AttemptService
from atm.service.outcomes import Succeeded
from atm.states import Status
from atm.store import logs
from atm.store.database import Database

LATE_SECONDS = GRACE.total_seconds() + 1


@pytest.fixture
def sweeper(database: Database) -> TimeoutSweeper:
    return TimeoutSweeper(database)


def test_what_is_overdue_ends_or_goes_on_to_its_retry(
    made: Tasks, sweeper: TimeoutSweeper, database: Database
) -> None:
    last, first = (made.running(timeout_ms=1000, max_retry=retries) for retries in (0, 1))
    for task in (last, first):
        made.set_ago(task, deadline_at=LATE_SECONDS)
    assert not sweeper.run_once()
    assert made.statuses(last, first) == [Status.TIMEOUT, Status.PENDING]
    assert (made.get(last).error_reason, made.get(first).retry_count) == ("TIMED_OUT", 1)
    for task in (last, first):
        rows = database.read(lambda connection, task=task: logs.of_task(connection, task))  # type: ignore[misc]
        assert any("its worker did not end it" in row.message for row in rows)


def test_a_worker_is_given_some_time_to_end_its_attempts_itself(
    made: Tasks, sweeper: TimeoutSweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE", timedelta(hours=1))
    just_over, in_time, unlimited = (
        made.running(timeout_ms=timeout_ms) for timeout_ms in (60_000, 60_000, 0)
    )
    made.set_ago(just_over, deadline_at=60)
    assert made.get(unlimited).deadline_at is None
    assert not sweeper.run_once()
    assert made.statuses(just_over, in_time, unlimited) == [Status.PROCESSING] * 3


def test_what_waits_and_what_has_ended_has_no_deadline(made: Tasks, sweeper: TimeoutSweeper) -> None:
    waiting, ended = made.waiting(timeout_ms=1), made.ended(timeout_ms=60_000)
    assert [made.get(task).deadline_at for task in (waiting, ended)] == [None, None]
    assert not sweeper.run_once()
    assert made.statuses(waiting, ended) == [Status.PENDING, Status.SUCCESS]


def test_the_late_result_of_what_was_ended_is_refused(
    made: Tasks, sweeper: TimeoutSweeper, database: Database
) -> None:
    task = made.running("w", timeout_ms=1000, max_retry=0)
    made.set_ago(task, deadline_at=LATE_SECONDS)
    sweeper.run_once()
    assert AttemptService(database, "w").finish(task, 1, Succeeded({"n": "1"})) is None
    assert (made.get(task).status, made.get(task).result) == (Status.TIMEOUT, None)


def test_more_than_a_batch_is_ended_in_turns(
    made: Tasks, sweeper: TimeoutSweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    ids = [made.running(timeout_ms=1000, max_retry=0) for _ in range(5)]
    for task in ids:
        made.set_ago(task, deadline_at=LATE_SECONDS)
    assert [sweeper.run_once() for _ in range(3)] == [True, True, False]
    assert made.statuses(*ids) == [Status.TIMEOUT] * 5
