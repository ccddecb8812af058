"""Processes whose clocks differ agree about what is due, who lives, and what came first."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from make_tasks import Tasks

from atm.broker.broker import TaskBroker
from atm.lists import lists_of
from atm.models import Worker
from atm.scheduler.relay import Relay
from atm.scheduler.rescuer import Rescuer
from atm.scheduler.timeout_sweeper import TimeoutSweeper
from atm.service.attempts import AttemptService
from atm.service.dispatch import Dispatcher
from atm.service.outcomes import Failed
from atm.service.task_service import TaskService
from atm.states import Reason, Status, WorkerStatus
from atm.store import clock as clock_module
from atm.store import database as database_module
from atm.store.database import Database
from atm.store.dsn import parse_sql_dsn
from atm.worker.attempt import Attempts
from atm.worker.claim_ledger import ClaimLedger
from atm.worker.heartbeat import Heartbeat

OFF = [timedelta(seconds=seconds) for seconds in (-3600, -12, -7, -1.5, 1.5, 10, 3600)]
#: A file's time is that of the kernel's last tick.
NEARLY = timedelta(milliseconds=500)


@contextlib.contextmanager
def _off_by(off: timedelta) -> Iterator[None]:
    """The clock of the machine is off by so much."""

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Shifted:
            return cls.fromtimestamp(datetime.now(UTC).timestamp() + off.total_seconds(), tz)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock_module, "datetime", Shifted)
        patch.setattr(database_module, "datetime", Shifted)
        yield


@pytest.fixture(params=OFF, ids=lambda off: f"{off.total_seconds():+g}s")
def off(request: pytest.FixtureRequest) -> timedelta:
    made: timedelta = request.param
    return made


@pytest.fixture
def shifted(off: timedelta, dsn: str) -> Iterator[Database]:
    """The database as a process sees it whose own clock is off by so much."""
    with _off_by(off):
        made = Database(parse_sql_dsn(dsn), pool_size=4)
        made.ping()
    assert abs(made.clock.ahead - off) < NEARLY
    yield made
    made.close()


def _worker(database: Database, worker_id: str = "w") -> Heartbeat:
    at = database.clock.now()
    row = Worker(
        worker_id=worker_id,
        host="h",
        pid=1,
        capacity=1,
        task_types=[],
        started_at=at,
        last_heartbeat_at=at,
    )
    made = Heartbeat(database, Attempts(ClaimLedger()), row, 2.0)
    made.start()
    return made


def test_a_worker_takes_what_is_due_and_a_retry_waits_as_long_as_it_should(
    made: Tasks, shifted: Database, database: Database, broker: TaskBroker
) -> None:
    task_id = made.waiting(retry_delay_ms=30_000)
    worker = AttemptService(shifted, "w")
    claimed = worker.claim(task_id, 1)
    assert claimed
    assert abs(claimed.started_at - database.clock.now()) < NEARLY + timedelta(seconds=10)
    assert worker.finish(task_id, 1, Failed(Reason.HANDLER_ERROR, "no")) is Status.PENDING
    task = made.get(task_id)
    assert task.started_at
    assert task.created_at - NEARLY <= task.started_at
    assert timedelta(seconds=20) < task.due_at - task.started_at < timedelta(seconds=50)
    # Nor is it sent before, by whichever leader.
    for seen_by in (shifted, database):
        Relay(seen_by, Dispatcher(broker), 1.0, 1000).run_once()
    assert broker.fetch(lists_of(["example_task"]), 5, 0)[1] == []


def test_nobody_is_given_up_on_for_the_clock_of_his_machine_or_of_the_leaders(
    made: Tasks, shifted: Database, database: Database
) -> None:
    there, here = made.running("there", timeout_ms=60_000), made.running("here", timeout_ms=60_000)
    _worker(shifted, "there").run_once()
    _worker(database, "here").run_once()
    for leader in (shifted, database):
        Rescuer(leader, lease=8.0).run_once()
        TimeoutSweeper(leader).run_once()
    assert made.statuses(there, here) == [Status.PROCESSING] * 2


def test_a_leader_whose_clock_is_off_finds_who_is_silent(made: Tasks, shifted: Database) -> None:
    task_id = made.running("w", max_retry=1)
    _worker(shifted)
    Rescuer(shifted, lease=0.0).run_once()
    assert made.statuses(task_id) == [Status.PENDING]


def test_everybody_can_see_whose_clock_is_off(
    off: timedelta, shifted: Database, service: TaskService, database: Database
) -> None:
    with _off_by(off):
        _worker(shifted).run_once()
    (worker,) = service.workers()
    assert worker.status == WorkerStatus.RUNNING
    assert abs(worker.clock_ahead_ms - off / timedelta(milliseconds=1)) < 1000
    assert abs(worker.last_heartbeat_at - database.clock.now()) < NEARLY + timedelta(seconds=10)


def test_tasks_are_listed_in_the_order_of_their_creation(
    shifted: Database, broker: TaskBroker, made: Tasks
) -> None:
    server = TaskService(shifted, Dispatcher(broker))
    server.start()
    try:
        off = shifted.clock.ahead
        # Ids are made with the clock of the machine, which the test cannot shift: so the other way round.
        straight = uuid.UUID(made.waiting())
        task_id = uuid.UUID(Tasks(shifted, server).waiting())
    finally:
        server.close()
    between = timedelta(milliseconds=(task_id.int >> 80) - (straight.int >> 80))
    assert abs(between + off) < NEARLY + timedelta(seconds=10)


def test_after_a_jump_of_the_databases_time_nobody_is_given_up_on_before_he_could_be_heard(
    made: Tasks, database: Database
) -> None:
    task_id = made.running("w")
    worker = _worker(database)
    worker.run_once()
    clock = database.clock
    # As a failover to a database whose clock is ahead by an hour would tell.
    later = clock.now() + timedelta(hours=1)
    clock.observe(later, time.monotonic(), time.monotonic(), datetime.now(UTC))
    leader = Rescuer(database, lease=600.0)
    leader.run_once()
    assert made.statuses(task_id) == [Status.PROCESSING]
    assert clock.now() > later - NEARLY
