"""The rescuer: who is not heard of loses what it holds, and nobody else does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from make_tasks import Tasks
from sqlalchemy.engine import Connection

from atm.models import Worker, now
from atm.scheduler import rescuer as module
from atm.scheduler.rescuer import Rescuer
from atm.service.attempts import AttemptService
from atm.service.outcomes import Succeeded
from atm.states import Status
from atm.store import workers
from atm.store.database import Database

LEASE_SECONDS = 8.0


@pytest.fixture
def rescuer(database: Database) -> Rescuer:
    return Rescuer(database, LEASE_SECONDS)


def _register(database: Database, worker_id: str, heard_ago: float) -> None:
    at = now() - timedelta(seconds=heard_ago)
    worker = Worker(
        worker_id=worker_id,
        host="box",
        pid=1,
        capacity=8,
        task_types=["example_task"],
        version="1",
        started_at=at,
        last_heartbeat_at=at,
    )
    database.write(lambda connection: workers.register(connection, worker))


def _known(database: Database) -> list[str]:
    return [worker.worker_id for worker in database.read(workers.all_workers)]


def test_only_workers_that_are_not_heard_of_lose_their_tasks(
    made: Tasks, rescuer: Rescuer, database: Database
) -> None:
    _register(database, "alive", LEASE_SECONDS - 4)
    _register(database, "silent", LEASE_SECONDS + 1)
    kept, lost, orphan = (made.running(worker) for worker in ("alive", "silent", "never registered"))
    waiting, ended = made.waiting(), made.ended(worker_id="w")
    assert not rescuer.run_once()
    assert _known(database) == ["alive"]
    assert made.statuses(kept, lost, orphan) == [Status.PROCESSING, Status.PENDING, Status.PENDING]
    assert made.statuses(waiting, ended) == [Status.PENDING, Status.SUCCESS]
    assert [made.get(task).retry_count for task in (kept, lost, orphan)] == [0, 1, 1]


def test_without_a_retry_left_the_task_has_failed_and_says_why(
    made: Tasks, rescuer: Rescuer, database: Database
) -> None:
    task = made.running("gone", max_retry=0)
    rescuer.run_once()
    done = made.get(task)
    assert (done.status, done.error_reason) == (Status.FAILED, "WORKER_LOST")
    assert "gone was not heard of any more" in done.error_message


def test_a_second_sweep_finds_nothing_to_do(made: Tasks, rescuer: Rescuer) -> None:
    task = made.running("gone", max_retry=5)
    assert [rescuer.run_once() for _ in range(3)] == [False] * 3
    assert made.get(task).retry_count == 1


def test_what_another_worker_has_claimed_meanwhile_is_left_to_it(
    made: Tasks, rescuer: Rescuer, database: Database
) -> None:
    _register(database, "alive", 0)
    task = made.running("gone")
    rescuer.run_once()
    assert AttemptService(database, "alive").claim(task, 2)
    rescuer.run_once()
    assert (made.get(task).status, made.get(task).worker_id) == (Status.PROCESSING, "alive")


def test_a_worker_that_is_heard_of_just_before_it_is_taken_out_stays(
    made: Tasks, rescuer: Rescuer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _register(database, "late", LEASE_SECONDS + 1)
    task = made.running("late")
    remove = workers.remove

    def heard_of_and_removed(connection: Connection, **which: Any) -> bool:
        workers.touch(connection, which["worker_id"], now())
        return remove(connection, **which)

    monkeypatch.setattr(workers, "remove", heard_of_and_removed)
    rescuer.run_once()
    assert _known(database) == ["late"]
    assert made.get(task).status == Status.PROCESSING


def test_an_end_that_comes_first_counts(
    made: Tasks, rescuer: Rescuer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = made.running("gone")
    take_back = rescuer._take_back_one

    def late(found: object) -> None:
        assert AttemptService(database, "gone").finish(task, 1, Succeeded({}))
        take_back(found)  # type: ignore[arg-type]

    monkeypatch.setattr(rescuer, "_take_back_one", late)
    rescuer.run_once()
    assert made.get(task).status == Status.SUCCESS


def test_a_worker_with_more_than_a_batch_is_swept_in_turns(
    made: Tasks, rescuer: Rescuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    ids = [made.running("gone") for _ in range(5)]
    assert [rescuer.run_once() for _ in range(3)] == [True, True, False]
    assert made.statuses(*ids) == [Status.PENDING] * 5
